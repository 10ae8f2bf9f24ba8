"""What the API's page names: models, aspect ratios, resolutions, modes, and their limits.

API page "Image to Video", introduction and table "Request Body".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Model(StrEnum):
    """The documented model ids; any other string is left to the server to judge."""

    SEEDANCE_2_0 = "seedance-2.0"
    SEEDANCE_2_0_FAST = "seedance-2.0-fast"
    SEEDANCE_1_5_PRO = "seedance-1.5-pro"


class AspectRatio(StrEnum):
    """The documented aspect ratios, width to height."""

    LANDSCAPE = "16:9"
    PORTRAIT = "9:16"
    SQUARE = "1:1"


class Resolution(StrEnum):
    """The documented resolutions."""

    P480 = "480p"
    P720 = "720p"
    P1080 = "1080p"


class GenerationMode(StrEnum):
    """The mode that the server infers from the number and the types of the media.

    API page "Image to Video", introduction.
    """

    TEXT = "text"
    FIRST_FRAME = "first_frame"
    FIRST_AND_LAST_FRAME = "first_and_last_frame"
    MULTIMODAL = "multimodal"


#: Models with the durations, in whole seconds, that the API's page allows them.
DURATIONS: Mapping[str, frozenset[int]] = {
    Model.SEEDANCE_2_0: frozenset(range(4, 16)),
    Model.SEEDANCE_2_0_FAST: frozenset(range(4, 16)),
    Model.SEEDANCE_1_5_PRO: frozenset({5, 10}),
}
MAX_MEDIA = 5
