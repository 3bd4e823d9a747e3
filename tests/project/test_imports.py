"""Imports go one way, light rooms stay light, and no file outgrows its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABOVE = {"retrieval": {"indexer", "webui"}, "indexer": {"webui"}, "webui": set()}
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "openvino",
    "nncf",
    "onnxruntime",
    "faiss",
    "ray",
    "flask",
    "lightning",
    "sklearn",
    "safetensors",
    "cv2",
)
TORCH_ROOMS = {
    "retrieval.attention",
    "retrieval.augmentation",
    "retrieval.backbones",
    "retrieval.composition",
    "retrieval.course",
    "retrieval.embedder",
    "retrieval.feeding",
    "retrieval.fitting",
    "retrieval.folding",
    "retrieval.frozen",
    "retrieval.heads",
    "retrieval.keeping",
    "retrieval.lesson",
    "retrieval.listener",
    "retrieval.losses",
    "retrieval.mining",
    "retrieval.network",
    "retrieval.objective",
    "retrieval.onnx_runtime",
    "retrieval.openvino_runtime",
    "retrieval.optimisation",
    "retrieval.picture_store",
    "retrieval.pooling",
    "retrieval.preparing",
    "retrieval.running",
    "retrieval.timing",
    "retrieval.torch_runtime",
    "retrieval.training",
    "retrieval.validation",
}
FLASK_ROOMS = {
    "webui.app",
    "webui.api",
    "webui.pages",
    "webui.uploads",
    "webui.server",
    "webui.thumbnails",
    "webui.gate",
}
# One door a heavy library: nobody else imports it.
DOORS = {
    "deltalake": {"indexer.items"},
    "faiss": {"indexer.faiss_index"},
    "timm": {"retrieval.backbones"},
    "filelock": {"indexer.place"},
    "pytorch_metric_learning": {"retrieval.losses"},
    "lightning": {"retrieval.fitting", "retrieval.keeping", "retrieval.running"},
    "PIL": {"retrieval.images", "retrieval.colour"},
    "simplejpeg": {"retrieval.jpeg"},
    "openvino": {"retrieval.openvino_runtime"},
    "nncf": {"retrieval.openvino_runtime"},
    "onnxruntime": {"retrieval.onnx_runtime"},
    "platformdirs": {"retrieval.conversions"},
    "sklearn": {"retrieval.clustering", "retrieval.projection"},
    "scipy": {"retrieval.uncertainty", "retrieval.likelihood"},
    "cleanlab": {"retrieval.suspects"},
    "cv2": {"retrieval.local_features"},
}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ABOVE
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("name", list(modules()))
def test_imports_go_one_way_and_heavy_libraries_have_one_door(name: str) -> None:
    path = modules()[name]
    tops = {imported.split(".")[0] for imported in imports(path)}
    assert not tops & ABOVE[name.split(".")[0]]
    for library, doors in DOORS.items():
        if library == "PIL" and name.startswith("retrieval.datasets.saree"):
            continue  # a data set that is drawn needs something to draw with
        assert library not in tops or name in doors, f"{name} imports {library}"


@pytest.mark.parametrize("package", list(ABOVE))
def test_roots_import_nothing(package: str) -> None:
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_light_rooms_load_nothing_heavy() -> None:
    light = [name for name in modules() if name not in TORCH_ROOMS | FLASK_ROOMS]
    # One fresh interpreter for all: a heavy module that any of them loads is seen after its import.
    program = (
        "import sys, importlib\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "    assert not loaded, (name, loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_loads_click_and_little_else() -> None:
    program = (
        "import sys\n"
        "from webui.cli import root\n"
        "try: root.main(['--help'], prog_name='lookalike')\n"
        "except SystemExit: pass\n"
        "heavy = [name for name in ('numpy', 'pyarrow', 'PIL', 'deltalake', 'torch', 'flask') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("index", "search", "evaluate", "serve", "doctor", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "path",
    [*modules().values(), *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_no_file_outgrows_its_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 420
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "core", "manager", "misc"}
