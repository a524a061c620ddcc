"""Every public name has a page, and every page and target of a link is there."""

import ast
import importlib
import inspect
import re
import tomllib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
PACKAGE = ROOT / "skinvariant"
GALLERY = "gallery/index"
if not DOCS.is_dir():
    pytest.skip("the pages are not beside the tests", allow_module_level=True)


def public_modules():
    """The files of the public modules, by full name; of a package its first one."""
    files = {"skinvariant": PACKAGE / "__init__.py"}
    for path in sorted([*PACKAGE.glob("[!_]*.py"), *PACKAGE.glob("[!_]*/__init__.py")]):
        name = path.parent.name if path.stem == "__init__" else path.stem
        files[f"skinvariant.{name}"] = path
    return files


def public_names():
    """Every public name, by full name, as the sources list them."""
    for module, path in public_modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__all__"
            ):
                for name in ast.literal_eval(node.value):
                    yield f"{module}.{name}"


def pages():
    """The text of each page, by its name, the gallery's first one included."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted(DOCS.glob("*.rst"))}
    return texts | {GALLERY: (EXAMPLES / "GALLERY_HEADER.rst").read_text("utf-8")}


def blocks(text, directive):
    """The lines below each use of a directive, options apart."""
    start = re.escape(f".. {directive}::") + r".*\n((?:[ ]+.*\n|\n)*)"
    for block in re.findall(start, text + "\n"):
        yield [
            line.strip()
            for line in block.splitlines()
            if line.strip() and not line.strip().startswith(":")
        ]


def target(entry):
    """What `Title <target>` or `target` points to."""
    return re.sub(r"^.*<(.*)>$", r"\1", entry, flags=re.DOTALL).strip()


def on_the_reference_page():
    """Full names of all that the reference lists."""
    module = None
    for line in (DOCS / "api.rst").read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split("::")[1].strip()
        elif re.fullmatch(r"   \w+", line):
            yield f"{module}.{line.strip()}"


def test_every_public_name_has_a_page_and_no_other_has():
    """What the reference lists is what the modules list, each once."""
    listed = list(on_the_reference_page())
    known = set(public_names())
    # in the module and at the top: the page is that of the top
    top = {name.rpartition(".")[2] for name in known if name.count(".") == 1}
    known -= {n for n in known if n.count(".") > 1 and n.rpartition(".")[2] in top}
    assert set(listed) == known
    assert len(listed) == len(set(listed)) > 70


def public_methods():
    """Every public class of the package with each public method of its own."""
    needs = {"heads": ("torch", "skorch"), "nn": ("torch",)}
    for name in sorted(public_names()):
        module, _, member = name.rpartition(".")
        if not all(find_spec(n) for n in needs.get(module.rpartition(".")[2], ())):
            continue
        value = getattr(importlib.import_module(module), member)
        if not inspect.isclass(value):
            continue
        for method in dir(value):
            function = inspect.getattr_static(value, method)
            function = getattr(function, "__func__", function)
            own = str(getattr(function, "__module__", "")).startswith("skinvariant")
            if inspect.isfunction(function) and own and not method.startswith("_"):
                yield pytest.param(function, id=f"{name}.{method}")


@pytest.mark.parametrize("function", list(public_methods()))
def test_every_parameter_of_every_method_is_described(function):
    """Not only of functions and classes: of inherited and optional methods, too."""
    docscrape = pytest.importorskip("numpydoc.docscrape")
    described = docscrape.FunctionDoc(function)["Parameters"]
    names = {name.lstrip("*") for d in described for name in d.name.split(", ")}
    assert set(inspect.signature(function).parameters) - {"self", "cls"} == names
    assert all("".join(parameter.desc).strip() for parameter in described)


def test_there_are_methods_to_look_at():
    """An empty loop would pass."""
    assert len(list(public_methods())) > 50


def test_every_module_and_constant_says_what_it_is():
    """A docstring, or a comment of the form that Sphinx reads."""
    for module, path in public_modules().items():
        text = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), path
        for name in re.findall(r"^([A-Z]\w+) = ", text, flags=re.MULTILINE):
            if f"{module}.{name}" in set(public_names()):
                assert re.search(rf"#: .*\n(#: .*\n)*{name} = ", text), name


def test_every_page_can_be_reached_from_the_first():
    """Through tables of contents alone, and each of their entries is a page."""
    texts, found, todo = pages(), set(), ["index"]
    while todo:
        page = todo.pop()
        found.add(page)
        for block in blocks(texts[page], "toctree"):
            entries = [entry for entry in map(target, block) if entry != "self"]
            # those that the build makes are not there before it
            todo += [entry for entry in entries if not entry.startswith("generated/")]
        assert set(todo) <= set(texts), f"in the table of contents of {page}"
    assert found == set(texts)


def missing(page):
    """What a page points to and what is not there: pages, labels and files."""
    texts = pages()
    labels = set(re.findall(r"^\.\. _([\w-]+):", "\n".join(texts.values()), re.M))
    labels |= {f"sphx_glr_gallery_{path.name}" for path in EXAMPLES.glob("plot_*.py")}
    for role, entry in re.findall(r":(doc|ref):`([^`]+)`", texts[page]):
        if target(entry) not in (texts if role == "doc" else labels):
            yield entry
    paths = re.findall(r"\.\. (?:image|figure|include)::\s+(\S+)", texts[page])
    paths += re.findall(r"`[^`]*<([^`>:#]+)>`_", texts[page])
    yield from (path for path in paths if not (DOCS / path.lstrip("/")).exists())
    # scripts that are named in commands and prose
    scripts = re.findall(r"\bexamples/[\w/]+\.py\b", texts[page])
    yield from (script for script in scripts if not (ROOT / script).exists())


def test_no_two_pages_have_one_title():
    """Pages and examples: the title is what a search engine and a tab show."""
    titles = [re.search(r"^(.+)\n=+$", text, re.M)[1] for text in pages().values()]
    examples = [path.read_text("utf-8") for path in EXAMPLES.glob("plot_*.py")]
    titles += [ast.get_docstring(ast.parse(text)).split("\n")[0] for text in examples]
    assert len(titles) > 45
    assert len(titles) == len({title.strip().lower() for title in titles})


def test_every_formula_becomes_mathml():
    """Of pages and docstrings: docutils converts it, as the build of the pages does."""
    convert = pytest.importorskip("docutils.utils.math.latex2mathml").tex2mathml
    sources = [*DOCS.glob("*.rst"), *PACKAGE.rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    found = re.findall(r":math:`([^`]+)`|\.\. math:: (.+)", text)
    assert len(found) > 25
    for formula in map("".join, found):
        assert "<math" in convert(formula.replace(r"\dots", r"\ldots"))


def test_the_results_page_is_short_and_no_number_on_it_is_typed():
    """Its tables come from the records; only the text is written by hand."""
    text = pages()["results"]
    assert len(text.splitlines()) <= 200
    assert re.findall(r"\d\.\d", text) == []
    assert text.count(".. results-table::") + text.count(".. alternatives-table::") == 3


@pytest.mark.parametrize("page", sorted(pages()))
def test_every_target_is_there(page):
    """Pages, labels, pictures, files and scripts that a page points to."""
    assert list(missing(page)) == []


def test_every_picture_is_drawn_by_a_function_and_every_function_is_used():
    """Both ways, and each says in words what is to be seen."""
    tree = ast.parse((DOCS / "drawings.py").read_text(encoding="utf-8"))
    drawings = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and [argument.arg for argument in node.args.args] == ["page"]
    }
    text = "\n".join(pages().values())
    uses = re.findall(r"\.\. picture:: (\w+)\n +:alt: (.*)\n", text)
    assert len(uses) == text.count(".. picture::")
    assert {name for name, _ in uses} == drawings
    assert all(len(alt) > 20 for _, alt in uses)


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda p: p.stem
)
def test_every_example_has_a_title_and_is_in_the_gallery(path):
    """A title, what it is about, and a line on the gallery's first page."""
    title, line, *text = ast.get_docstring(ast.parse(path.read_text("utf-8"))).split(
        "\n"
    )
    assert line == "=" * len(title)
    assert len(" ".join(text).split()) > 20
    header = re.sub(r"\s+", " ", pages()[GALLERY])
    assert f":ref:`{title} <sphx_glr_gallery_{path.name}>`" in header


def test_every_extra_is_on_the_first_page():
    """Both ways: what can be installed beside the package, and what for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"^   \* - ``([\w-]+)``$", pages()["index"], re.M)
    assert sorted(named) == sorted(project["optional-dependencies"])


def test_broken_links_are_found(tmp_path):
    """A page, a place in it and a picture that are there, and three that are not."""
    spec = spec_from_file_location("check_links", DOCS / "check_links.py")
    check_links = module_from_spec(spec)
    spec.loader.exec_module(check_links)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").write_text('<h1 id="here">B</h1>')
    (tmp_path / "dot.svg").write_text("<svg/>")
    good = (
        '<a href="sub/b.html#here">b</a><img src="dot.svg"><a href="https://x.y">c</a>'
    )
    (tmp_path / "index.html").write_text(good)
    assert list(check_links.broken(tmp_path)) == []
    bad = '<a href="sub/b.html#there">b</a><img src="d.svg"><a href="c.html">c</a>'
    (tmp_path / "index.html").write_text(bad)
    assert sorted(check_links.broken(tmp_path)) == [
        "index.html: c.html",
        "index.html: d.svg",
        "index.html: sub/b.html#there",
    ]


def test_every_promise_names_tests_that_exist():
    """And no promise is without one."""
    text = (DOCS / "promises.rst").read_text("utf-8").partition("What it does not")[0]
    promises = re.split(r"\n- ", text)[1:]
    assert len(promises) > 15
    for promise in promises:
        names = re.findall(r"``(test_\w+\.py)::(test_\w+)``", promise)
        assert names, promise
        for file, name in names:
            assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text("utf-8"), name
