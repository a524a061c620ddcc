"""Configuration of the Sphinx documentation."""

import html
import inspect
import os
import sys
import textwrap
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

import skinvariant
from skinvariant import RelativeProjector, comparison, metrics
from skinvariant.datasets import make_related_spaces

HERE = Path(__file__).parent
PAPER = HERE.parent / "examples" / "paper"
sys.path += [str(HERE), str(PAPER)]
import drawings  # noqa: E402
import report  # noqa: E402
import tables  # noqa: E402

project = "skinvariant"
author = "skinvariant developers"
copyright = author
version = release = skinvariant.__version__

extensions = [
    "mathml",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
exclude_patterns = ["_build"]
default_role = "literal"

autosummary_generate = True
autodoc_typehints = "none"
# the template of classes lists their methods
numpydoc_show_class_members = False

html_math_renderer = "mathml"
# links into other projects need their inventories; a build without a network goes
# without them, and a missing target is then plain text
ONLINE = "READTHEDOCS" in os.environ or "GITHUB_ACTIONS" in os.environ
INVENTORIES = {
    "dask": "https://docs.dask.org/en/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "python": "https://docs.python.org/3/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "sklearn": "https://scikit-learn.org/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}
intersphinx_mapping = {name: (url, None) for name, url in INVENTORIES.items() if ONLINE}

# the button copies the code, without its prompts and its output
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skinvariant",),
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "parallel": 2,
    "within_subsection_order": "drawings.reading_order",
    "show_memory": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skinvariant {version}"
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "show_toc_level": 2,
}
toc_object_entries_show_parents = "hide"
# pages that stand alone have no section to navigate in
ALONE = ("index", "conventions", "non_goals", "changes", "contributing")
html_sidebars = {page: [] for page in (*ALONE, "releasing", "citing")}


def note_sources(env):
    """Declare what tables and pictures are made of, besides the page."""
    sources = [Path(drawings.__file__), *PAPER.glob("*.py")]
    sources += (HERE / "results").glob("*.json")
    for path in [*sources, *Path(skinvariant.__path__[0]).rglob("*.py")]:
        env.note_dependency(path)


class GeneratedTable(SphinxDirective):
    """A table computed from what the package declares, never typed by hand."""

    def run(self):
        note_sources(self.env)
        lines = [".. csv-table::", "   :header-rows: 1", "   :stub-columns: 1"]
        lines += ["   :class: dense", ""]
        for row in self.rows():
            lines.append("   " + ", ".join(f'"{cell}"' for cell in row))
        return self.parse_text_to_nodes("\n".join(lines))


class MetricsTable(GeneratedTable):
    """What is known about each metric, apart from its invariances."""

    def rows(self):
        yield (
            "metric",
            "parameters",
            "larger is closer",
            "sparse",
            "array API",
            "needs rows",
        )
        for name, metric in metrics.METRICS.items():
            _, _, *parameters = inspect.signature(metric.function).parameters.values()
            yield (
                f":obj:`~skinvariant.metrics.{name}`",
                ", ".join(f"``{x}``" for x in parameters if x.name != "rows"),
                _yes(metric.larger_is_closer),
                _yes(metric.sparse),
                _yes(metric.array_api),
                _yes(metric.needs_rows),
            )


class InvariancesTable(GeneratedTable):
    """The `invariances_` of every metric, fitted with some `pre` and `post`.

    What these change is set in bold.
    """

    option_spec = {"pre": directives.unchanged, "post": directives.unchanged}

    def rows(self):
        yield "metric", *(name.replace("_", " ") for name in metrics.TRANSFORMATIONS)
        for metric in metrics.METRICS:
            alone, held = _invariances(metric), _invariances(metric, **self.options)
            yield (
                metric,
                *(
                    _yes(name in held, bold=(name in held) != (name in alone))
                    for name in metrics.TRANSFORMATIONS
                ),
            )


class MeasuresTable(GeneratedTable):
    """What leaves each measure of two spaces unchanged."""

    def rows(self):
        yield "measure", *(name.replace("_", " ") for name in metrics.TRANSFORMATIONS)
        for name, params, classes in comparison._INVARIANCES:
            options = "".join(f", ``{key}={value!r}``" for key, value in params.items())
            yield (
                f":obj:`~skinvariant.comparison.{name}`{options}",
                *(
                    _yes(transformation in classes)
                    for transformation in metrics.TRANSFORMATIONS
                ),
            )


class AlternativesTable(GeneratedTable):
    """Stitching and what one might do instead, from the records of the results."""

    def rows(self):
        records = drawings.records()
        yield (
            "data",
            "plain head, own",
            "voting model, own",
            "stitched",
            "with the anchors' labels",
            "best translation",
            "the anchors' labels alone",
        )
        for data, title in tables.TITLES.items():
            if records.rows(f"voting_{data}"):
                yield title, *drawings.alternatives(data)


class ResultsTable(SphinxDirective):
    """A table of the results that `report` writes from the records."""

    required_arguments = 1

    def run(self):
        note_sources(self.env)
        lines = getattr(report, self.arguments[0])(drawings.records())
        return self.parse_text_to_nodes("\n".join(lines))


class Picture(SphinxDirective):
    """A picture that `drawings` makes of what the page's own blocks compute.

    What is written below it is its caption.
    """

    required_arguments = 1
    has_content = True
    option_spec = {"alt": directives.unchanged_required}

    def run(self):
        page = Path(self.env.doc2path(self.env.docname))
        note_sources(self.env)
        folder = HERE / "generated" / "pictures"
        files = drawings.draw(self.arguments[0], page, folder)
        lines = []
        for theme, path in files.items():
            lines += [f".. image:: /generated/pictures/{path.name}"]
            lines += [f"   :alt: {self.options['alt']}"]
            lines += ["" if theme == "both" else f"   :class: only-{theme}", ""]
        picture = nodes.container(classes=["picture"])
        picture += self.parse_text_to_nodes("\n".join(lines))
        picture += self.parse_content_to_nodes()
        return [picture]


def write_results(app):
    """Write the pages of the results, one for each data set and some for all."""
    report.write(drawings.records(), HERE / "generated" / "results")


def describe(app, pagename, templatename, context, doctree):
    """Give each page a description: its first sentences, for search engines."""
    paragraphs = doctree.findall(nodes.paragraph) if doctree else ()
    text = next((p.astext() for p in paragraphs if _is_prose(p)), project)
    text = html.escape(textwrap.shorten(text, 160, placeholder=" ..."))
    meta = f'<meta name="description" content="{text}">'
    context["metatags"] = context.get("metatags", "") + meta


def _is_prose(paragraph):
    parents = (nodes.section, addnodes.desc_content)
    return isinstance(paragraph.parent, parents) and len(paragraph.astext()) > 40


def _yes(value, *, bold=False):
    text = "yes" if value else "no"
    return f"**{text}**" if bold else text


def _invariances(metric, **around):
    X = make_related_spaces(random_state=0).X_a
    projector = RelativeProjector(50, metric=metric, random_state=0, **around)
    return projector.fit(X).invariances_


def setup(app):
    app.connect("builder-inited", write_results)
    app.connect("html-page-context", describe)
    app.add_directive("alternatives-table", AlternativesTable)
    app.add_directive("measures-table", MeasuresTable)
    app.add_directive("metrics-table", MetricsTable)
    app.add_directive("invariances-table", InvariancesTable)
    app.add_directive("picture", Picture)
    app.add_directive("results-table", ResultsTable)
    return {"parallel_read_safe": True}
