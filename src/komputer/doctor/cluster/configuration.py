"""Checks whether the KomputerConfig and the default agent template exist and are valid."""

from pydantic import ValidationError

from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok
from komputer.domain import names
from komputer.domain.config import Config
from komputer.domain.errors import NotFound
from komputer.kube import CONFIGS


async def examine(installation: Installation) -> Result:
    try:
        config = Config.model_validate(await installation.cluster.get(CONFIGS, names.CONFIG_NAME))
        await installation.default_template()
    except NotFound as missing:
        return failed(missing.message, "helm upgrade --install komputer charts/komputer")
    except ValidationError as wrong:
        return failed(f"KomputerConfig: {wrong.errors()[0]['msg']}", "correct it")
    return ok(f"agents talk to {config.spec.gateway_url}")
