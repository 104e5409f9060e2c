"""What importing costs: the base package answers quickly and without what only training needs."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchaudio", "lightning", "h5py", "scipy", "matplotlib", "httpx", "distributed", "dvc.repo")


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


@pytest.mark.parametrize("statement", ["import backbeat", "import backbeat.cli.app"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_transcribing_does_not_load_lightning() -> None:
    assert "lightning" not in loaded_by("import backbeat.transcription.transcribe, backbeat.transcription.evaluate")


def test_preprocessing_does_not_load_torch() -> None:
    assert not loaded_by("import backbeat.drums.preprocess") & {"torch", "lightning", "matplotlib", "httpx"}


def test_an_interrupt_while_the_program_is_loading_is_no_traceback() -> None:
    program = (
        "import builtins\nload = builtins.__import__\n"
        "def interrupted(name, *others):\n"
        "    if name == 'backbeat.cli':\n"
        "        raise KeyboardInterrupt\n"
        "    return load(name, *others)\n"
        "builtins.__import__ = interrupted\n"
        "import backbeat.cli.app"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
