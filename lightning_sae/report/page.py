"""A page from its template."""

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from lightning_sae.report.text import plain


def render(package: str, context: dict[str, Any], template: str = "page.html.jinja") -> str:
    """Return a page; every text of the context is escaped, and a name that is missing is an error.

    Args:
        package: package whose folder `templates` holds the template; `base.css` comes from this package.
        context: values of the names in the template.
        template: name of the template's file.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("lightning_sae.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)


def _finalize(value: Any) -> Any:
    """Make texts of users plain; markup of this library stays as it is."""
    return plain(value) if type(value) is str else value
