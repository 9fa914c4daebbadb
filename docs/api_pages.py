"""One page of the reference for each package, made from its face when the site is built."""

import ast
import pathlib

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1] / "jcbir"


def names(face: pathlib.Path) -> list[str]:
    """What a face offers, without the public modules, which have sections of their own."""
    found = [node for node in ast.parse(face.read_text()).body if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in found if node.module for alias in node.names]


def section(module: str, **options: str) -> str:
    """The lines by which mkdocstrings shows a module."""
    chosen = "".join(f"\n      {name}: {value}" for name, value in options.items())
    return f"::: {module}\n    options:{chosen or ' {}'}\n"


def packages() -> list[str]:
    """The names under which the site has pages: packages and single modules."""
    public = [path for path in ROOT.iterdir() if not path.name.startswith("_")]
    return sorted({path.stem for path in public if path.is_dir() or path.suffix == ".py"} - {"cli"})


def on_files(files, config):
    """Add the pages to the site."""
    for name in packages():
        folder, text = ROOT / name, f"# jcbir.{name} {{ #jcbir.{name} }}\n\n"
        face = folder / "__init__.pyi"
        # The title of the page is the module's own heading.
        own = {"show_root_heading": "false", "show_root_toc_entry": "false"}
        if not folder.is_dir():
            text += section(f"jcbir.{name}", **own)
        elif face.exists():
            text += section(f"jcbir.{name}", **own, members=f"[{', '.join(names(face))}]")
        for path in sorted(folder.glob("[!_]*.py")) if folder.is_dir() else ():
            text += "\n" + section(f"jcbir.{name}.{path.stem}")
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files
