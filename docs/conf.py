"""Configuration of the Sphinx documentation."""

import inspect
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

import skinvariant
from skinvariant import RelativeProjector, comparison, metrics
from skinvariant.datasets import make_related_spaces

HERE = Path(__file__).parent
PAPER = HERE.parent / "examples" / "paper"
sys.path += [str(HERE), str(PAPER)]
import drawings  # noqa: E402

project = "skinvariant"
author = "skinvariant developers"
copyright = author
version = release = skinvariant.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
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

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "within_subsection_order": "drawings.reading_order",
    "show_memory": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skinvariant {version}"
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
ALONE = ("index", "results", "conventions", "non_goals", "changes", "contributing")
html_sidebars = {page: [] for page in (*ALONE, "releasing", "citing")}


def note_sources(env):
    """Say what tables and pictures are made of, besides the page."""
    sources = [Path(drawings.__file__), *(HERE / "results").glob("*.json")]
    for path in [*sources, *Path(skinvariant.__path__[0]).glob("*.py")]:
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
        yield "metric", "parameters", "larger is closer", "sparse", "array API"
        for name, metric in metrics.METRICS.items():
            _, _, *parameters = inspect.signature(metric.function).parameters.values()
            yield (
                f":obj:`~skinvariant.metrics.{name}`",
                ", ".join(f"``{parameter}``" for parameter in parameters),
                _yes(metric.larger_is_closer),
                _yes(metric.sparse),
                _yes(metric.array_api),
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
        for name, params, classes in comparison.INVARIANCES:
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
        tables, records = drawings.records()
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


def _yes(value, *, bold=False):
    text = "yes" if value else "no"
    return f"**{text}**" if bold else text


def _invariances(metric, **around):
    X = make_related_spaces(random_state=0).X_a
    projector = RelativeProjector(50, metric=metric, random_state=0, **around)
    return projector.fit(X).invariances_


def setup(app):
    app.add_directive("alternatives-table", AlternativesTable)
    app.add_directive("measures-table", MeasuresTable)
    app.add_directive("metrics-table", MetricsTable)
    app.add_directive("invariances-table", InvariancesTable)
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True}
