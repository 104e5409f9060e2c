"""What GitHub Codespaces is told: valid, no more than the smallest machine, and nothing that one failure can stop."""

from __future__ import annotations

import json
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from backbeat.cloud import codespace
from backbeat.remote import credentials

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / ".devcontainer"
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "devcontainer.schema.json").read_text())
PREBUILD = ("onCreateCommand", "updateContentCommand")
WITH_SECRETS = ("postCreateCommand", "postStartCommand")


def devcontainer() -> dict[str, Any]:
    """Return the container's description; comments have lines of their own there."""
    lines = (FOLDER / "devcontainer.json").read_text().splitlines()
    return json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))


def test_it_is_what_the_specification_allows() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(devcontainer(), SCHEMA)


@pytest.mark.parametrize(
    "fault",
    [
        {"postCreateComand": "true"},
        {"remoteUser": 1000},
        {"image": "mcr.microsoft.com/devcontainers/python"},
        {"secrets": {"B2-BUCKET": {}}},
        {"secrets": {"B2_BUCKET_NAME": {"default": "x"}}},
        {"postCreateCommand": {"one": 1}},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_what_the_specification_does_not_allow_is_found(fault: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**deepcopy(devcontainer()), **fault}, SCHEMA)


def test_the_python_of_the_image_is_one_that_the_package_allows() -> None:
    import tomllib

    image, _, tag = devcontainer()["image"].partition(":")
    assert image == "mcr.microsoft.com/devcontainers/python"
    allowed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    assert allowed == ">=3.11,<3.14"
    assert any(f"-{version}-" in tag for version in ("3.11", "3.12", "3.13"))


def test_nobody_is_root_and_nobody_is_locked_out_by_the_size_of_the_machine() -> None:
    assert devcontainer()["remoteUser"] != "root"
    assert "hostRequirements" not in devcontainer()


def test_every_secret_that_is_read_is_asked_for_and_explained() -> None:
    asked = devcontainer()["secrets"]
    assert set(asked) == {credentials.KEY_ID_VARIABLE, credentials.SECRET_VARIABLE, codespace.BUCKET_VARIABLE}
    for secret in asked.values():
        assert secret["description"].endswith(".")
        assert secret["documentationUrl"]


def test_a_prebuild_installs_and_what_sees_secrets_brings_data() -> None:
    described = devcontainer()
    assert {described[name].split()[-1] for name in PREBUILD if name in described} == {"setup"}
    assert [described[name].split()[-1] for name in WITH_SECRETS] == ["data", "data"]
    for name in (*PREBUILD, *WITH_SECRETS):
        assert (REPOSITORY / described.get(name, "sh .devcontainer/start.sh").split()[1]).is_file()


def test_programs_that_setup_installs_are_on_the_path() -> None:
    assert devcontainer()["remoteEnv"]["PATH"].startswith("${containerWorkspaceFolder}/.venv/bin:")


def test_the_script_is_good_shell() -> None:
    shellcheck = shutil.which("shellcheck")
    script = FOLDER / "start.sh"
    subprocess.run(["sh", "-n", script], check=True)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; sh reads the script without complaint")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
