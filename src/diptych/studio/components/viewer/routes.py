"""The addresses from which viewers get pictures and numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import app, ui
from starlette.responses import JSONResponse, Response

from diptych.errors import DiptychError
from diptych.studio.components.viewer.readouts import histogram, profile, values_at
from diptych.studio.components.viewer.source import ImageSource
from diptych.studio.components.viewer.store import ImageStore
from diptych.studio.components.viewer.view import View, default_colours, display_range, offered_colours, render

BASE = "/studio-image"
STYLE = Path(__file__).with_name("viewer.css")
log = logging.getLogger("diptych")


def register(images: ImageStore) -> None:
    """Declare the routes. They are ordinary functions, which the server runs in worker threads."""
    ui.add_css(STYLE, shared=True)

    @app.get(BASE + "/{key}/picture")
    def picture(
        key: str,
        quantity: str,
        y0: float,
        y1: float,
        x0: float,
        x1: float,
        height: int,
        width: int,
        low: float | None = None,
        high: float | None = None,
        colours: str | None = None,
        unlit: bool = False,
    ) -> Response:
        def answer(image: ImageSource) -> Response:
            view = View(quantity, (y0, y1, x0, x1), height, width, low, high, colours or None, unlit)
            found = render(image, view)
            if found is None:
                return Response(status_code=204)
            headers = {
                "x-box": ",".join(map(str, found.box)),
                "x-level": str(found.level),
                "x-range": f"{found.low!r},{found.high!r}",
                "cache-control": "private, max-age=600",
            }
            return Response(found.data, media_type=found.media, headers=headers)

        return _answered(images, key, answer)

    @app.get(BASE + "/{key}/about")
    def about(key: str) -> Response:
        return _answered(images, key, lambda image: JSONResponse(description(image)))

    @app.get(BASE + "/{key}/quantity")
    def quantity_(key: str, quantity: str) -> Response:
        return _answered(images, key, lambda image: JSONResponse(quantity_details(image, quantity)))

    @app.get(BASE + "/{key}/values")
    def values(key: str, y: float, x: float) -> Response:
        return _answered(images, key, lambda image: JSONResponse(values_at(image, y, x)))

    @app.get(BASE + "/{key}/profile")
    def profile_(key: str, quantity: str, y0: float, x0: float, y1: float, x1: float) -> Response:
        return _answered(images, key, lambda image: JSONResponse(profile(image, quantity, (y0, x0), (y1, x1))))


def description(image: ImageSource) -> dict[str, Any]:
    """What a viewer needs to know of an image before it asks for a picture, as JSON values."""
    return {
        "name": image.name,
        "extent": image.extent,
        "focus": image.focus or image.extent,
        "pixel_m": image.pixel_m,
        "masked": image.lit is not None,
        "quantities": [{"name": q.name, "label": q.label, "unit": q.unit} for q in image.quantities.values()],
    }


def quantity_details(image: ImageSource, name: str) -> dict[str, Any]:
    """Histogram, automatic range and colour maps of a quantity, as JSON values."""
    from diptych.studio.components.viewer.palettes import legend
    from diptych.studio.components.viewer.view import quantity_of

    quantity = quantity_of(image, name)
    names = offered_colours(quantity)
    return {
        "histogram": histogram(image, name),
        "range": display_range(image, name),
        "maps": {each: legend(each) for each in names},
        "map": default_colours(image, name),
        "unit": quantity.unit,
        "scale": quantity.scale,
    }


def _answered(images: ImageStore, key: str, answer: Callable[[ImageSource], Response]) -> Response:
    try:
        return answer(images[key])
    except KeyError:
        return _refused(404, "this image is not open any more: reload the page")
    except DiptychError as error:
        return _refused(422, str(error))
    except MemoryError:
        log.exception("image %s", key)
        return _refused(507, "there is not enough memory for this image")


def _refused(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
