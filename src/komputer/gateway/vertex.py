"""Claude on Google Cloud: the Messages API with the model in the path, and Google's access tokens."""

from dataclasses import dataclass
from typing import Final

import orjson

VERSION: Final = "vertex-2023-10-16"
MULTI_REGIONS: Final = ("eu", "us")


@dataclass(frozen=True)
class Vertex:
    """A project and its region (`europe-west1`, …), multi-region (`eu`, `us`) or `global`. The addresses, paths and the
    version are those of Anthropic's own client (anthropic 2.14, `lib/vertex`)."""

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
        """Path and body of an admitted Messages request, as Vertex AI wants them."""
        body = {"anthropic_version": VERSION} | orjson.loads(raw)
        models = f"/projects/{self.project}/locations/{self.region}/publishers/anthropic/models"
        if path.endswith("/count_tokens"):
            return f"{models}/count-tokens:rawPredict", orjson.dumps(body)
        verb = "streamRawPredict" if body.get("stream") else "rawPredict"
        return f"{models}/{body.pop('model')}:{verb}", orjson.dumps(body)
