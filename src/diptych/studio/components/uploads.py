"""A field that takes files, dropped or chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

# The header that Quasar draws has a button without a name, with an input inside.
HEADER = """
<div class="row items-center no-wrap q-pa-sm full-width" style="gap: 12px">
  <q-btn outline no-caps icon="upload_file" label="Choose a file" @click="props.pickFiles" />
  <div class="col">{LABEL}</div>
  <div v-if="props.isUploading" role="status">{{ props.uploadProgressLabel }}</div>
  <div style="display: none"><q-uploader-add-trigger /></div>
</div>
"""


def upload_box(
    label: str,
    received: Callable[[Any], Any],
    limit: float,
    *,
    accept: str = "",
    multiple: bool = False,
    refused: Callable[[], None] | None = None,
) -> ui.upload:
    """A field into which files are dropped; a button chooses one.

    Parameters
    ----------
    label : str
        What belongs there.
    received : callable
        Takes the event of each file.
    limit : float
        Largest file, bytes.
    accept : str
        Endings of file names, with commas between; all without it.
    multiple : bool
        Whether several files can be chosen at once.
    refused : callable, optional
        Called for a file that is too large.
    """
    box = ui.upload(multiple=multiple, auto_upload=True, max_file_size=int(limit), on_upload=received)
    if refused is not None:
        box.on_rejected(refused)
    box.props("flat bordered" + (f" accept={accept}" if accept else "")).classes("w-full max-w-xl upload-box")
    box.add_slot("header", HEADER.replace("{LABEL}", label))
    return box
