"""Claude on Google Cloud: the Messages API with the model in the path, and Google's access tokens."""

import re
from dataclasses import dataclass
from typing import Final

import orjson

from komputer.domain.errors import Invalid

VERSION: Final = "vertex-2023-10-16"
MULTI_REGIONS: Final = ("eu", "us")
MODEL: Final = re.compile(r"[A-Za-z0-9.@_-]+")
"""The names of models that are accepted for Vertex AI. The name becomes part of the path of a request that carries
Google's token."""


@dataclass(frozen=True)
class Vertex:
    """A Google Cloud project, and its region (`europe-west1`, …), multi-region (`eu`, `us`) or `global`. Addresses,
    paths and the API version are those of Anthropic's own client (anthropic 2.14, `lib/vertex`)."""

    project: str
    region: str

    @property
    def base_url(self) -> str:
        if self.region == "global":
            return "https://aiplatform.googleapis.com/v1"
        if self.region in MULTI_REGIONS:
            return f"https://aiplatform.{self.region}.rep.googleapis.com/v1"
        return f"https://{self.region}-aiplatform.googleapis.com/v1"

    def translated(self, path: str, raw: bytes) -> tuple[str, bytes]:
        """Return path and body of an admitted Messages request in Vertex AI's form. Raises `Invalid` for a model whose
        name cannot be one of Vertex AI's."""
        body = {"anthropic_version": VERSION} | orjson.loads(raw)
        if not MODEL.fullmatch(str(body["model"])):
            asked = str(body["model"])[:80]
            raise Invalid(
                f"Vertex AI has no model {asked!r}: its names have letters, digits, '.', '@', '_' and '-'.",
                code="model_not_on_vertex",
            )
        models = f"/projects/{self.project}/locations/{self.region}/publishers/anthropic/models"
        if path.endswith("/count_tokens"):
            return f"{models}/count-tokens:rawPredict", orjson.dumps(body)
        verb = "streamRawPredict" if body.get("stream") else "rawPredict"
        return f"{models}/{body.pop('model')}:{verb}", orjson.dumps(body)
