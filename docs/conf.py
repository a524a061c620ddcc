"""Configuration of the Sphinx documentation."""

import inspect

from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

import skinvariant
from skinvariant import RelativeProjector, comparison, metrics
from skinvariant.datasets import make_related_spaces

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
    "show_memory": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skinvariant {version}"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False}


class GeneratedTable(SphinxDirective):
    """A table computed from what the package declares, never typed by hand."""

    def run(self):
        for module in (comparison, metrics, inspect.getmodule(RelativeProjector)):
            self.env.note_dependency(inspect.getsourcefile(module))
        lines = [".. csv-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
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


def _yes(value, *, bold=False):
    text = "yes" if value else "no"
    return f"**{text}**" if bold else text


def _invariances(metric, **around):
    X = make_related_spaces(random_state=0).X_a
    projector = RelativeProjector(50, metric=metric, random_state=0, **around)
    return projector.fit(X).invariances_


def setup(app):
    app.add_directive("measures-table", MeasuresTable)
    app.add_directive("metrics-table", MetricsTable)
    app.add_directive("invariances-table", InvariancesTable)
    return {"parallel_read_safe": True}
