"""Twelve regional traditions of the saree and four designs of each: what is drawn, as tables.

The four designs of a tradition share region, weave, ground, palette and finish, and differ only in the field's motif,
the border or the pallu. Names, weaves and motifs follow the craft as known in the trade; the drawings are stylised, and
the prices only plausible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from retrieval.datasets.saree_fields import Field
from retrieval.datasets.saree_tiles import Band, Ink, Palette

GOLD: Ink = (222, 176, 82, 255)
PALE_GOLD: Ink = (226, 196, 122, 230)
COPPER: Ink = (206, 140, 84, 240)
SILVER: Ink = (206, 206, 204, 240)


@dataclass(frozen=True)
class Finish:
    """How a tradition's cloth takes light and shows its threads; all shares from 0 to 1 but ``crisp``.

    Attributes:
        sheen: of the silk; cotton has little.
        crisp: how sharp the folds are; 1 is soft silk, 2 starched cotton.
        slub: unevenness of the yarn.
        ikat: how far the tied yarn's colours run across the edges, share of the cloth's width.
        pucker: relief of tied knots or raised brocade.
        sheer: how far light shines through.
    """

    sheen: float = 0.8
    crisp: float = 1.0
    slub: float = 0.3
    ikat: float = 0.0
    pucker: float = 0.5
    sheer: float = 0.0


@dataclass(frozen=True)
class Design:
    """One design: the field, the border from the body outwards, the pallu from the body to the end."""

    name: str
    field: Field
    border: tuple[Band, ...]
    pallu: tuple[Band, ...]


@dataclass(frozen=True)
class Tradition:
    """One regional tradition; ``colours`` name the colourways, ``palettes`` hold their inks in the same order."""

    name: str
    region: str
    weave: str
    price: int
    colours: tuple[str, ...]
    palettes: tuple[Palette, ...]
    designs: tuple[Design, ...]
    finish: Finish = field(default_factory=Finish)


def _ink(code: str) -> Ink:
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16), 0


def _inks(
    ground: str, border: str, accent: str, second: str, zari: Ink | str, *, dark: str = "2a1418"
) -> Mapping[str, Ink]:
    named = {
        "ground": _ink(ground),
        "border": _ink(border),
        "accent": _ink(accent),
        "second": _ink(second),
        "dark": _ink(dark),
    }
    return {**named, "zari": _ink(zari) if isinstance(zari, str) else zari}


def _edge(*main: Band, crest: Band | None = None, hem: str = "zari") -> tuple[Band, ...]:
    """A border: an optional crest reaching into the body, a line, the main bands, a line, the selvedge."""
    top = () if crest is None else (crest,)
    return (
        *top,
        Band("plain", 0.008, on="zari"),
        *main,
        Band("plain", 0.008, on="zari"),
        Band("plain", 0.008),
        Band("plain", 0.012, on=hem),
    )


def _end(*main: Band, on: str = "border", lead: str = "temple") -> tuple[Band, ...]:
    """A pallu: a crest towards the body, fine lines, the main bands, fine lines, and a plain end."""
    ground = "ground" if lead in ("temple", "peaks") else on
    return (
        Band(lead, 0.06, on=ground, pitch=0.7),
        Band("lines", 0.03, on=on),
        *main,
        Band("lines", 0.03, on=on),
        Band("plain", 0.02, on=on),
        Band("plain", 0.03, on="zari"),
    )


TEMPLE = Band("temple", 0.05, on="ground", pitch=0.62, ink="border")
BEADS = Band("rudraksha", 0.03, pitch=0.9)

TRADITIONS: tuple[Tradition, ...] = (
    Tradition(
        "Banarasi", "Varanasi, Uttar Pradesh", "Kadhwa zari brocade on katan silk", 18500,
        ("vermilion", "royal purple"),
        (_inks("a8141f", "7c0d22", "1f7a58", "e0567a", GOLD), _inks("5a1a6e", "43104f", "d8355f", "3c9a7a", GOLD)),
        (
            Design("Kadhwa-Bootidar", Field("buttas", (0.2, 0.24), "mango", 0.62),
                _edge(Band("vine", 0.1, pitch=1.8)),
                _end(Band("row", 0.24, motif="paisley", pitch=0.8), Band("vine", 0.1, pitch=1.8),
                    Band("row", 0.24, motif="paisley", pitch=0.8))),
            Design("Jangla", Field("jaal", (0.17, 0.24), "rosette", 0.24),
                _edge(Band("row", 0.1, motif="lotus", pitch=1.3)),
                _end(Band("jaal", 0.4, motif="rosette", pitch=0.6),
                    Band("row", 0.14, motif="lotus", pitch=1.3))),
            Design("Shikargah", Field("buttas", (0.26, 0.26), "elephant", 0.6, style="strewn"),
                _edge(Band("row", 0.1, motif="peacock", pitch=1.3)),
                _end(Band("row", 0.2, motif="elephant", pitch=1.2), Band("vine", 0.1, pitch=1.8),
                    Band("row", 0.22, motif="peacock", pitch=1.1))),
            Design("Ashrafi-Buti", Field("buttas", (0.15, 0.15), "coin", 0.52),
                _edge(Band("diamonds", 0.1, pitch=0.9)),
                _end(Band("row", 0.24, motif="paisley", pitch=0.8), Band("diamonds", 0.12),
                    Band("row", 0.2, motif="coin"))),
        ),
    ),
    Tradition(
        "Kanjivaram", "Kanchipuram, Tamil Nadu", "Korvai mulberry silk with three-ply zari", 24000,
        ("emerald", "turmeric"),
        (_inks("0b6b48", "a3114e", "e8a33a", "7a0f3e", GOLD), _inks("d99a1c", "7d1030", "0f6a58", "b5173f", GOLD)),
        (
            Design("Temple-Gopuram", Field("buttas", (0.16, 0.16), "star", 0.36),
                _edge(BEADS, Band("peaks", 0.075, pitch=0.8), BEADS,
                    crest=Band("temple", 0.075, on="ground", ink="border", pitch=0.62)),
                _end(Band("peaks", 0.16, pitch=0.7), Band("diamonds", 0.16), Band("peaks", 0.16, pitch=0.7))),
            Design("Mayil-Chakram", Field("buttas", (0.24, 0.24), "wheel", 0.34, style="strewn"),
                _edge(Band("row", 0.13, motif="peacock", pitch=1.15), BEADS),
                _end(Band("row", 0.26, motif="peacock", pitch=1.0), BEADS, Band("row", 0.2, motif="wheel"))),
            Design("Kattam", Field("squares", (0.13, 0.13)),
                _edge(BEADS, Band("diamonds", 0.09, pitch=0.9), BEADS),
                _end(Band("diamonds", 0.16), Band("chatai", 0.14, pitch=1.2), Band("diamonds", 0.16))),
            Design("Yanai", Field("buttas", (0.24, 0.22), "mango", 0.5),
                _edge(Band("row", 0.13, motif="elephant", pitch=1.25), crest=TEMPLE),
                _end(Band("row", 0.22, motif="elephant", pitch=1.2), Band("peaks", 0.1, pitch=0.7),
                    Band("row", 0.22, motif="paisley", pitch=0.9))),
        ),
    ),
    Tradition(
        "Paithani", "Paithan and Yeola, Maharashtra", "Tapestry-woven silk with zari pallu", 32000,
        ("peacock blue", "magenta"),
        (_inks("0a5a86", "6b1a5c", "e2408a", "26a06a", GOLD), _inks("a80f5c", "1f4f8a", "f08a2c", "2aa676", GOLD)),
        (
            Design("Bangadi-Mor", Field("buttas", (0.16, 0.16), "coin", 0.32), _edge(Band("chevrons", 0.1, pitch=0.9)),
                _end(Band("pairs", 0.44, motif="peacock", pitch=1.7, on="zari",
                    swap={"zari": "second", "second": "accent"}), Band("chevrons", 0.1), lead="lines")),
            Design("Muniya", Field("buttas", (0.18, 0.18), "star", 0.36),
                _edge(Band("row", 0.11, motif="parrot", pitch=1.05, swap={"zari": "second", "second": "zari"})),
                _end(Band("row", 0.22, motif="parrot", on="zari", pitch=0.95,
                    swap={"zari": "second", "second": "border"}), Band("diamonds", 0.1),
                    Band("row", 0.22, motif="parrot", on="zari", pitch=0.95,
                    swap={"zari": "second", "second": "border"}), lead="lines")),
            Design("Asavali", Field("buttas", (0.2, 0.22), "sprig", 0.5),
                _edge(Band("vine", 0.12, pitch=1.7, swap={"zari": "accent", "second": "zari"})),
                _end(Band("row", 0.46, motif="sprig", pitch=0.42, on="zari",
                    swap={"zari": "accent", "accent": "border"}), Band("vine", 0.1, pitch=1.8), lead="lines")),
            Design("Kamal", Field("buttas", (0.2, 0.18), "mango", 0.5),
                _edge(Band("row", 0.11, motif="lotus", pitch=1.3, swap={"zari": "accent", "accent": "zari"})),
                _end(Band("row", 0.24, motif="lotus", pitch=1.25, on="zari",
                    swap={"zari": "border", "accent": "accent"}), Band("chevrons", 0.08),
                    Band("row", 0.24, motif="lotus", pitch=1.25, on="zari", swap={"zari": "border"}), lead="lines")),
        ),
    ),
    Tradition(
        "Patola", "Patan, Gujarat", "Double ikat silk", 68000, ("madder red", "bottle green"),
        (_inks("a3161c", "3a1024", "f2e2b8", "e3a52c", "f4e9cc", dark="1d1a2e"),
            _inks("14503a", "5e0f1e", "f2e2b8", "d8402c", "f0dfae", dark="1d1a2e")),
        (
            Design("Nari-Kunjar", Field("lattice", (0.34, 0.34), "elephant", 0.38, ink="second", style="parrot"),
                _edge(Band("diamonds", 0.1, pitch=0.9, motif="stepped diamond"), hem="border"),
                _end(Band("row", 0.22, motif="elephant", pitch=1.2), Band("lines", 0.06),
                    Band("row", 0.2, motif="parrot"), lead="peaks")),
            Design("Pan-Bhat", Field("lattice", (0.34, 0.34), "leaf tree", 0.36, ink="second", style="leaf tree"),
                _edge(Band("row", 0.1, motif="leaf tree", pitch=0.95), hem="border"),
                _end(Band("row", 0.2, motif="leaf tree", pitch=0.9), Band("chevrons", 0.1),
                    Band("row", 0.2, motif="leaf tree", pitch=0.9), lead="peaks")),
            Design("Chhabdi-Bhat", Field("lattice", (0.3, 0.3), "rosette", 0.4, ink="second", style="wheel"),
                _edge(Band("peaks", 0.1, pitch=0.7), hem="border"),
                _end(Band("row", 0.22, motif="rosette"), Band("lines", 0.06), Band("row", 0.22, motif="rosette"),
                    lead="peaks")),
            Design("Navratna-Bhat",
                Field("lattice", (0.28, 0.28), "stepped diamond", 0.42, ink="accent", style="stepped diamond"),
                _edge(Band("checks", 0.06, pitch=1.3), Band("lines", 0.04), hem="border"),
                _end(Band("row", 0.24, motif="stepped diamond"), Band("checks", 0.08),
                    Band("row", 0.24, motif="stepped diamond"), lead="peaks")),
        ), Finish(sheen=0.65, ikat=0.006, pucker=0.0),
    ),
    Tradition(
        "Bandhani", "Bhuj, Kutch, Gujarat", "Tie-dyed gajji silk", 9800, ("scarlet", "indigo"),
        (_inks("b80f1e", "5a0a22", "f5c53a", "5fae6a", "f7ead2", dark="7c0a16"),
            _inks("1c2a66", "8a0f3a", "f2b53a", "e2567a", "eef0f6", dark="101a44")),
        (
            Design("Ekdali", Field("knots", (0.22, 0.22), size=0.045, style="ekdali"),
                _edge(Band("lines", 0.05), Band("rudraksha", 0.06, pitch=0.8)),
                _end(Band("row", 0.22, motif="star"), Band("rudraksha", 0.07), Band("row", 0.22, motif="star"),
                    lead="rudraksha")),
            Design("Chaubandi", Field("knots", (0.2, 0.2), size=0.042, style="chaubandi"),
                _edge(Band("row", 0.11, motif="paisley", pitch=0.9)),
                _end(Band("row", 0.26, motif="paisley", pitch=0.85), Band("rudraksha", 0.06),
                    Band("row", 0.18, motif="paisley", pitch=0.85), lead="rudraksha")),
            Design("Rasmandala", Field("knots", (0.38, 0.38), size=0.021, style="medallion"),
                _edge(Band("row", 0.11, motif="rosette", pitch=1.0)),
                _end(Band("row", 0.34, motif="rosette", pitch=1.0), Band("rudraksha", 0.06),
                    Band("rudraksha", 0.06), lead="rudraksha")),
            Design("Lehar-Bandhej", Field("knots", (0.3, 0.24), size=0.036, style="waves"),
                _edge(Band("waves", 0.1, pitch=1.5)),
                _end(Band("waves", 0.18, pitch=1.3), Band("rudraksha", 0.07), Band("waves", 0.18, pitch=1.3),
                    lead="rudraksha")),
        ), Finish(sheen=0.5, pucker=1.0, slub=0.2),
    ),
    Tradition(
        "Chanderi", "Chanderi, Madhya Pradesh", "Sheer silk and cotton with zari butis", 7200, ("mint", "rose"),
        (_inks("a9d3bd", "4d9a85", "d9577c", "2f7f6c", PALE_GOLD),
            _inks("eebfc4", "c0587a", "7a2a5c", "a83a68", PALE_GOLD)),
        (
            Design("Ashrafi", Field("buttas", (0.17, 0.17), "coin", 0.42),
                _edge(Band("row", 0.07, motif="coin", pitch=1.1)),
                _end(Band("lines", 0.1), Band("row", 0.2, motif="coin"), Band("lines", 0.1), lead="lines")),
            Design("Phool-Buti", Field("buttas", (0.18, 0.2), "sprig", 0.5), _edge(Band("vine", 0.08, pitch=1.8)),
                _end(Band("vine", 0.12, pitch=1.7), Band("row", 0.24, motif="sprig", pitch=0.7),
                    Band("vine", 0.12, pitch=1.7), lead="lines")),
            Design("Dandidar", Field("stripes", (0.14, 0.14), "star", 0.17), _edge(Band("chatai", 0.075, pitch=1.2)),
                _end(Band("chatai", 0.16, pitch=1.2), Band("lines", 0.12), Band("chatai", 0.16, pitch=1.2),
                    lead="lines")),
            Design("Chaukhana", Field("squares", (0.15, 0.15), "tulip", 0.28), _edge(Band("peaks", 0.08, pitch=0.8)),
                _end(Band("peaks", 0.12, pitch=0.7), Band("row", 0.22, motif="tulip", pitch=0.7),
                    Band("peaks", 0.12, pitch=0.7), lead="lines")),
        ), Finish(sheen=0.45, crisp=1.4, sheer=0.6, pucker=0.35),
    ),
    Tradition(
        "Sambalpuri", "Bargarh and Sonepur, Odisha", "Weft ikat (bandha) cotton", 5400, ("midnight blue", "terracotta"),
        (_inks("16213f", "8c1420", "e8b04a", "c9402c", "f0e3c8"),
            _inks("a8432a", "23180f", "f0c05a", "1f4a4a", "f3e6cc")),
        (
            Design("Shankha", Field("buttas", (0.22, 0.22), "conch", 0.5),
                _edge(Band("row", 0.1, motif="fish", pitch=1.4)),
                _end(Band("row", 0.2, motif="conch", pitch=0.9), Band("peaks", 0.12, pitch=0.7),
                    Band("row", 0.2, motif="conch", pitch=0.9), lead="peaks")),
            Design("Chakra", Field("buttas", (0.22, 0.22), "wheel", 0.46),
                _edge(Band("rudraksha", 0.05), Band("peaks", 0.07, pitch=0.7)),
                _end(Band("row", 0.26, motif="wheel"), Band("lines", 0.06), Band("row", 0.2, motif="rosette"),
                    lead="peaks")),
            Design("Pasapali", Field("lattice", (0.2, 0.2), "stepped diamond", 0.4, ink="accent", style="star"),
                _edge(Band("checks", 0.1, pitch=1.3)),
                _end(Band("checks", 0.22, pitch=1.3), Band("lines", 0.06), Band("checks", 0.22, pitch=1.3),
                    lead="peaks")),
            Design("Machhi", Field("buttas", (0.24, 0.18), "fish", 0.5, style="mirrored"),
                _edge(Band("waves", 0.1, pitch=1.5)),
                _end(Band("row", 0.14, motif="fish", pitch=1.5), Band("waves", 0.14, pitch=1.4),
                    Band("row", 0.14, motif="fish", pitch=1.5), lead="peaks")),
        ), Finish(sheen=0.15, crisp=1.5, slub=0.9, ikat=0.005, pucker=0.0),
    ),
    Tradition(
        "Jamdani", "Shantipur and Phulia, West Bengal", "Discontinuous-weft muslin", 11200, ("ivory", "sky blue"),
        (_inks("ece3cf", "d8c9a8", "a81f3a", "2c5d7c", "8c1a34"),
            _inks("9cc0d8", "5f90b4", "fbf6ea", "1f4a78", "f8f4e8")),
        (
            Design("Tercha", Field("slanted", (0.36, 0.36), "tulip", 0.5), _edge(Band("vine", 0.09, pitch=1.7)),
                _end(Band("row", 0.26, motif="tulip", pitch=0.75), Band("vine", 0.12, pitch=1.7),
                    Band("lines", 0.08))),
            Design("Kalka", Field("buttas", (0.22, 0.24), "paisley", 0.58),
                _edge(Band("row", 0.09, motif="mango", pitch=1.0)),
                _end(Band("row", 0.32, motif="paisley", pitch=0.85), Band("row", 0.14, motif="mango"), lead="peaks")),
            Design("Panna-Hazar", Field("buttas", (0.11, 0.11), "rosette", 0.4),
                _edge(Band("diamonds", 0.09, pitch=0.9)),
                _end(Band("jaal", 0.36, motif="rosette", pitch=0.6), Band("diamonds", 0.12))),
            Design("Jhalar", Field("jaal", (0.2, 0.26), "lotus", 0.2), _edge(Band("peaks", 0.09, pitch=0.7)),
                _end(Band("peaks", 0.14, pitch=0.7), Band("row", 0.2, motif="lotus", pitch=1.3),
                    Band("peaks", 0.14, pitch=0.7), lead="peaks")),
        ), Finish(sheen=0.12, crisp=1.5, slub=0.7, sheer=0.8, pucker=0.3),
    ),
    Tradition(
        "Kasavu", "Balaramapuram, Kerala", "Handloom cotton with zari kasavu", 3900,
        ("cream and green", "cream and red"),
        (_inks("f0e6cf", "f0e6cf", "1f6b3a", "2f7f4a", GOLD), _inks("f0e6cf", "f0e6cf", "a8182c", "b5303c", GOLD)),
        (
            Design("Mayil-Peeli", Field("plain"),
                _edge(Band("plain", 0.05, on="zari"), Band("lines", 0.03, ink="accent"),
                    Band("plain", 0.03, on="zari")),
                _end(Band("plain", 0.1, on="zari"), Band("row", 0.3, motif="peacock", pitch=1.05),
                    Band("plain", 0.14, on="zari"), lead="lines")),
            Design("Thamara", Field("buttas", (0.26, 0.26), "lotus", 0.3),
                _edge(Band("plain", 0.04, on="zari"), Band("row", 0.08, motif="lotus", pitch=1.3)),
                _end(Band("plain", 0.12, on="zari"), Band("row", 0.22, motif="lotus", pitch=1.3),
                    Band("plain", 0.2, on="zari"), lead="lines")),
            Design("Gopuram", Field("plain"),
                _edge(Band("plain", 0.045, on="accent"), Band("plain", 0.05, on="zari"),
                    crest=Band("temple", 0.06, on="ground", pitch=0.62)),
                _end(Band("plain", 0.14, on="zari"), Band("peaks", 0.14, pitch=0.7),
                    Band("plain", 0.14, on="zari"), Band("plain", 0.06, on="accent"))),
            Design("Aana", Field("stripes", (0.24, 0.24)), _edge(Band("row", 0.11, motif="elephant", pitch=1.25)),
                _end(Band("plain", 0.08, on="zari"), Band("row", 0.22, motif="elephant", pitch=1.2),
                    Band("lines", 0.1, ink="accent"), Band("plain", 0.12, on="zari"), lead="lines")),
        ), Finish(sheen=0.15, crisp=1.7, slub=0.8, pucker=0.2),
    ),
    Tradition(
        "Baluchari", "Bishnupur, West Bengal", "Figured silk brocade without zari", 15800, ("aubergine", "brick"),
        (_inks("3c1538", "5a1830", "e2b45c", "c9553a", "ecd9b4"),
            _inks("8e2f20", "3d1a2e", "efc66a", "2c5a66", "f2dfb8")),
        (
            Design("Darbar", Field("buttas", (0.15, 0.16), "tulip", 0.46), _edge(Band("arches", 0.14, pitch=1.25)),
                _end(Band("arches", 0.25, pitch=1.2), Band("vine", 0.1, pitch=1.7), Band("arches", 0.25, pitch=1.2),
                    lead="rudraksha")),
            Design("Ghorsowar", Field("buttas", (0.17, 0.17), "star", 0.4),
                _edge(Band("row", 0.14, motif="rider", pitch=1.2)),
                _end(Band("row", 0.25, motif="rider", pitch=1.15), Band("rudraksha", 0.06),
                    Band("row", 0.25, motif="rider", pitch=1.15), lead="rudraksha")),
            Design("Kalka-Buti", Field("buttas", (0.17, 0.2), "mango", 0.5),
                _edge(Band("row", 0.12, motif="paisley", pitch=0.95)),
                _end(Band("row", 0.42, motif="paisley", pitch=0.75), Band("vine", 0.12, pitch=1.7), lead="rudraksha")),
            Design("Shuk-Sari", Field("buttas", (0.16, 0.18), "sprig", 0.46),
                _edge(Band("pairs", 0.13, motif="parrot", pitch=2.2)),
                _end(Band("pairs", 0.26, motif="parrot", pitch=2.0), Band("diamonds", 0.1),
                    Band("arches", 0.22, pitch=1.2), lead="rudraksha")),
        ), Finish(sheen=0.6, pucker=0.35),
    ),
    Tradition(
        "Gadwal", "Gadwal, Telangana", "Cotton body joined to silk borders (kuttu)", 8600, ("mustard", "parrot green"),
        (_inks("c98f1a", "5f1236", "1a6a5a", "8a1a4a", GOLD), _inks("6f9a2a", "7a1030", "e8a02a", "5a0f3a", GOLD)),
        (
            Design("Kuttu-Temple", Field("plain"),
                _edge(Band("plain", 0.05), BEADS, Band("plain", 0.05),
                    crest=Band("temple", 0.08, on="ground", ink="border", pitch=0.6)),
                _end(Band("lines", 0.16), Band("peaks", 0.14, pitch=0.7), Band("lines", 0.16))),
            Design("Rudraksha", Field("squares", (0.17, 0.17)), _edge(BEADS, BEADS, BEADS, BEADS, crest=TEMPLE),
                _end(Band("rudraksha", 0.1, pitch=0.9), Band("row", 0.2, motif="rosette"),
                    Band("rudraksha", 0.1, pitch=0.9))),
            Design("Mayuri", Field("buttas", (0.22, 0.22), "coin", 0.32),
                _edge(Band("row", 0.13, motif="peacock", pitch=1.15), crest=TEMPLE),
                _end(Band("row", 0.28, motif="peacock", pitch=1.05), Band("lines", 0.1))),
            Design("Kotakomma", Field("stripes", (0.16, 0.16)),
                _edge(Band("peaks", 0.09, pitch=0.55), Band("chevrons", 0.06),
                    crest=Band("peaks", 0.06, on="ground", pitch=0.6)),
                _end(Band("peaks", 0.2, pitch=0.55), Band("chevrons", 0.1), Band("peaks", 0.14, pitch=0.55),
                    lead="peaks")),
        ), Finish(sheen=0.35, crisp=1.3, slub=0.6),
    ),
    Tradition(
        "Leheriya", "Jaipur, Rajasthan", "Wave-resist dyed georgette", 4600, ("fuchsia", "turquoise"),
        (_inks("c2185b", "6a0f4a", "f6b93b", "f07a2c", "fbeef2"),
            _inks("0f9a9a", "0d4a6b", "f8e27a", "2f6ab5", "eefaf8")),
        (
            Design("Sidhi-Lehar", Field("leheriya", (0.24, 0.24), style="slant"),
                _edge(Band("lines", 0.05, ink="accent"), Band("rudraksha", 0.05, ink="accent")),
                _end(Band("chevrons", 0.22), Band("lines", 0.08, ink="accent"), Band("chevrons", 0.22), lead="peaks")),
            Design("Mothra", Field("leheriya", (0.24, 0.24), style="crossed"),
                _edge(Band("diamonds", 0.1, pitch=0.9, swap={"zari": "accent", "accent": "zari"})),
                _end(Band("diamonds", 0.2), Band("lines", 0.08, ink="accent"), Band("diamonds", 0.2), lead="peaks")),
            Design("Nagmod", Field("leheriya", (0.22, 0.22), style="zigzag"), _edge(Band("waves", 0.1, pitch=1.5)),
                _end(Band("waves", 0.22, pitch=1.2), Band("rudraksha", 0.08, ink="accent"),
                    Band("waves", 0.22, pitch=1.2), lead="peaks")),
            Design("Gandadar", Field("leheriya", (0.3, 0.3), style="wide"),
                _edge(Band("row", 0.1, motif="rosette", swap={"zari": "accent", "accent": "zari"})),
                _end(Band("row", 0.24, motif="rosette"), Band("lines", 0.08, ink="accent"),
                    Band("row", 0.2, motif="star"), lead="peaks")),
        ), Finish(sheen=0.4, crisp=0.8, slub=0.2, ikat=0.003, pucker=0.15),
    ),
)  # fmt: skip
