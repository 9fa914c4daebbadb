"""The public surface obeys one grammar: introspected, so that no reviewer has to remember it."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import re
import textwrap

import pytest

import jcbir

ROOT = pathlib.Path(jcbir.__file__).parent
BANNED_PARAMETERS = {"rng", "data", "tmp", "seed", "args"}
BANNED_PREFIXES = ("get_", "do_", "util", "helper")
BANNED_MODULES = {"utils", "util", "helpers", "misc", "common"}
OPTIONAL = {"gmpy2", "h5py", "haiku", "httpx", "huggingface_hub", "ray", "starlette", "tensorflow_datasets", "uvicorn"}
# Raise what is wrong with a file, for the caller that puts it behind the file's name (the last, Python's own words).
REASONS = {"models/_readers.py", "data/_decode.py", "data/_folders.py", "paillier/_integers.py"}
# Commands tell a person what to do next.
SPOKEN = {"cli", "__pycache__", "py.typed"}
# The command line is documented by `--help`, and nobody imports it.
UNDOCUMENTED = "jcbir.cli"


def modules() -> list[str]:
    """Faces and the modules that stand in the open; what begins with an underscore is nobody's business but its own."""
    return [
        m.name
        for m in pkgutil.walk_packages([str(ROOT)], "jcbir.")
        if not any(part.startswith("_") for part in m.name.split("."))
    ]


def imported():
    """Every public module that imports here; one that needs an extra which is not installed is left out."""
    for name in modules():
        try:
            yield name, importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in OPTIONAL:
                raise


def offered():
    """What each face offers, and what each public module defines."""
    for name, module in imported():
        if name.startswith(UNDOCUMENTED):
            continue
        if (pathlib.Path(module.__file__).with_suffix(".pyi")).exists():
            for attribute in module.__all__:
                yield f"{name}.{attribute}", getattr(module, attribute)
        else:
            for attribute, value in vars(module).items():
                if getattr(value, "__module__", None) == name and not attribute.startswith("_"):
                    yield f"{name}.{attribute}", value


def public_functions():
    return [pytest.param(inspect.unwrap(value), id=name) for name, value in offered() if inspect.isfunction(value)]


def public_records():
    return [pytest.param(value, id=name) for name, value in offered() if inspect.isclass(value)]


@pytest.mark.parametrize("function", public_functions())
def test_signature(function):
    parameters = list(inspect.signature(function).parameters.values())
    for p in parameters:
        assert p.name not in BANNED_PARAMETERS, f"{p.name} says nothing, or is not this house's word for it"
        if p.default is not inspect.Parameter.empty:
            assert p.kind is inspect.Parameter.KEYWORD_ONLY, f"option {p.name} must be keyword-only"
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            assert p.annotation is not inspect.Parameter.empty, f"{p.name} has no annotation"
    positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    # `key` is a JAX PRNG key and comes first; a symmetric key is an option (`*, key: bytes`).
    assert "key" not in positional[1:], "a JAX PRNG key comes first"
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty, "no return annotation"


@pytest.mark.parametrize("function", public_functions())
def test_docstring(function):
    text = inspect.getdoc(function) or ""
    parameters = inspect.signature(function).parameters
    assert text, "no docstring"
    assert text.splitlines()[0].endswith("."), "the first line is one sentence"
    if parameters:
        assert "Args:" in text
        section = re.search(r"Args:\n(.*?)(\n\S|\Z)", text, re.S)
        assert section
        for name in parameters:
            assert re.search(rf"^\s+\**{name}\b", section.group(1), re.M), f"argument {name} is not described"
    if inspect.signature(function).return_annotation not in (None, "None"):
        assert "Returns:" in text or "Yields:" in text
    assert "Example:" in text and ">>>" in text, "no runnable example"
    body = ast.parse(textwrap.dedent(inspect.getsource(function)))
    if any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(body)):
        assert "Raises:" in text, "raises, and does not say what"


@pytest.mark.parametrize("record", public_records())
def test_record_docstring(record):
    assert inspect.getdoc(record), "no docstring"


def test_names():
    for path in ROOT.rglob("*.py"):
        assert path.stem not in BANNED_MODULES, f"{path} is a room without a name"
    for parameter in public_functions():
        function = parameter.values[0]
        assert not function.__name__.startswith(BANNED_PREFIXES), function.__qualname__
        assert len(function.__name__.strip("_").split("_")) <= 4, function.__qualname__


def raised_texts(path):
    """The text of every ValueError raised with one, its expressions as `{}`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            kind, text = node.exc.func, node.exc.args[0]
            if (
                isinstance(kind, ast.Name)
                and kind.id == "ValueError"
                and isinstance(text, ast.Constant | ast.JoinedStr)
            ):
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts)


@pytest.mark.parametrize("package", [path.name for path in sorted(ROOT.iterdir()) if path.name not in SPOKEN])
def test_one_error_grammar(package):
    place = ROOT / package
    for path in [place] if place.suffix == ".py" else place.rglob("*.py"):
        if path.relative_to(ROOT).as_posix() not in REASONS:
            for line, text in raised_texts(path):
                assert re.fullmatch(r"(?s)[^:]+: (.* )?must .+[,;] got .+", text), f"{path}:{line}: {text}"


def test_no_assert_and_no_pickle():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno} asserts; raise a named error"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "random", "joblib", "dill"} & set(names), f"{path}:{node.lineno} imports {names}"
            if isinstance(node, ast.Attribute):
                assert node.attr != "randprime", f"{path}:{node.lineno}: primes come from `secrets`, not from a PRNG"
