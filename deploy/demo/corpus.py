"""Headlines that the project makes up itself, for machines that have neither the data nor the network.

A headline is a topic, an event and a manner. Whether it is `good` (people want to discuss it) depends on how these fit
together, not on any one word, and one label in ten is wrong. So neither a list of words nor the majority class gets
it right, and nobody can: about nine in ten is the ceiling.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

ROWS = 6000
_SEED = 20220124
#: Share of the labels that are turned round.
_NOISE = 0.10

#: Topic -> how much people argue about it, from -1 to 1.
_TOPICS = {
    "a speed limit on motorways": 1.0,
    "heat pumps in old buildings": 0.9,
    "video surveillance at stations": 0.8,
    "the end of cash": 0.8,
    "working from home": 0.7,
    "nuclear power": 0.9,
    "the switch to electric cars": 0.8,
    "open-plan offices": 0.4,
    "broadband in villages": 0.4,
    "smartphones in schools": 0.6,
    "a text editor": 0.1,
    "programming languages": 0.3,
    "satellite internet": 0.2,
    "printer drivers": 0.0,
    "graphics cards": 0.1,
    "solid-state disks": -0.2,
    "spreadsheet software": -0.2,
    "photo printing": -0.5,
    "3D printers": -0.1,
    "kitchen robots": -0.4,
    "fitness trackers": -0.4,
    "podcast microphones": -0.7,
    "tablet covers": -0.9,
    "webcams": -0.6,
    "smart light bulbs": -0.3,
    "video games": -0.1,
    "quantum sensors": -0.4,
    "exoplanets": -0.5,
    "museum archives": -0.8,
    "weather satellites": -0.5,
}
#: Event -> its own weight, and the factor by which it turns the topic's weight.
_EVENTS = (
    ("Ministry plans new rules for {}", 0.3, 1.2),
    ("Court decides in the dispute over {}", 0.4, 1.0),
    ("Survey: what people think of {}", 0.2, 0.9),
    ("Experts warn about {}", 0.3, 1.0),
    ("Costs of {} keep rising", 0.5, 0.8),
    ("Opinion: why we talk wrongly about {}", 0.6, 0.7),
    ("Failure after update: trouble with {}", 0.6, -0.4),
    ("Vendor stops support for {}", 0.7, -0.5),
    ("Security hole found in {}", 0.5, -0.3),
    ("Subscription instead of purchase: {} become dearer", 0.8, -0.6),
    ("Workshop report: news about {}", -0.7, 0.3),
    ("In pictures: {} over the decades", -0.6, 0.2),
    ("Podcast: all about {}", -0.8, 0.2),
    ("Special offer of the week: {}", -0.9, 0.0),
    ("Research team improves {}", -0.4, 0.3),
    ("Five tips for {}", -0.5, 0.2),
    ("Trade fair shows trends in {}", -0.6, 0.2),
    ("Start-up collects millions for {}", -0.3, 0.3),
)
_MANNERS = (
    ("", 0.0),
    ("", 0.0),
    (", and nobody noticed", 0.3),
    (" despite protests", 0.4),
    (" from next year on", 0.1),
    (" in Bavaria", 0.2),
    (" for beginners", -0.4),
    (", part {}", -0.5),
    (": a first look", -0.3),
    (" across Europe", 0.1),
)


def generate(rows: int = ROWS) -> Iterator[tuple[int, str, str]]:
    """Number, headline and quality (`good` or `bad`); the same for everybody, no headline twice."""
    source = random.Random(_SEED)
    seen: set[str] = set()
    while len(seen) < rows:
        topic, weight = source.choice(list(_TOPICS.items()))
        event, own, factor = source.choice(_EVENTS)
        manner, tilt = source.choice(_MANNERS)
        number = source.randint(1, 40)
        headline = event.format(topic) + manner.format(number)
        good = own + factor * weight + tilt > 0.15
        if source.random() < _NOISE:
            good = not good
        if headline not in seen:
            seen.add(headline)
            yield len(seen), headline, "good" if good else "bad"


def write_csv(path: Path, rows: int = ROWS) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "headline", "quality"])
        writer.writerows(generate(rows))
