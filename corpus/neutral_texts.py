"""Texts about nothing in particular, by which it is seen what a language model forgets while it learns something else.

They were written for this project, and stand in no data set: everyday English, and some German, of several kinds.
"""

from __future__ import annotations

NEUTRAL_TEXTS = (
    "The path along the canal is wide enough for two bicycles, and in the early morning it belongs to people "
    "with dogs. By eight the first barges come through the lock. Their crews know the keeper by name, hand up a "
    "newspaper or a bag of rolls, and are gone again before the gates have closed behind them.",
    "To mend a flat tyre, take the wheel out, let the rest of the air escape and lift one side of the tyre over "
    "the rim with two levers. Pull out the tube, pump it up and hold it under water: where bubbles rise, there "
    "is the hole. Dry the place, roughen it a little, and press the patch on until the glue holds.",
    "Dear Ms Alvarez, thank you for your letter of 3 May. We are sorry that the lamp arrived with a broken "
    "shade. A new one was sent to you today and should arrive by the end of the week. You may keep the old shade "
    "or throw it away; there is no need to send it back. Yours sincerely, Peter Lindqvist",
    "Water boils at a lower temperature on a mountain than at the coast, because the air above it weighs less. "
    "Cooks in high villages know this without any physics: potatoes take longer there, and rice wants more "
    "water. A pot with a tight lid keeps the pressure up and so makes up for part of the height.",
    '"You are late," said the old man, without looking up from his chessboard. "The tram was full," she '
    'answered, "and the next one was full as well." He moved a pawn, waited, and moved it back. "Then sit down. '
    'The tea is cold, but the cake is not."',
    "The council met on Tuesday to decide about the swimming pool. Repairs of the roof will cost 1.2 million, of "
    "which the region pays a third. Two members asked for a smaller building; nine voted for the plan as it "
    "stands. Work is to begin in September, after the season, and to end before the following summer.",
    "Bread needs four things: flour, water, salt and time. Mix the first three in the evening, cover the bowl "
    "and leave it in a cool place. In the morning the dough has doubled. Fold it twice, shape a loaf, let it "
    "rest for an hour and bake it in a hot oven until the crust is dark and the bottom sounds hollow.",
    "Swallows build their nests of mud, one small ball after the other, and return to the same barn year after "
    "year. In dry springs they have to look for puddles and fly far. A farmer who leaves a tray of wet earth in "
    "the yard will see them come within a day.",
    'for name in sorted(names):\n    if not name.startswith("_"):\n        print(f"{name}: '
    '{len(values[name])}")\n\nThe loop goes through all names in their order, leaves out those that begin with an '
    "underscore, and prints of each of the others how many values it has.",
    "Am Samstag fuhren wir mit dem ersten Zug an den See. Das Wasser war noch kalt, aber die Sonne schien schon "
    "warm auf die Steine am Ufer. Gegen Mittag kamen Wolken auf, und wir setzten uns in das kleine Gasthaus "
    "neben der Mühle, wo es Suppe, Brot und einen guten Käse gab.",
    "Wer eine Wohnung mietet, zahlt meist eine Kaution. Sie darf höchstens drei Monatsmieten betragen und muss "
    "getrennt vom Vermögen des Vermieters angelegt werden. Nach dem Auszug wird sie mit Zinsen zurückgezahlt, "
    "sobald feststeht, dass nichts beschädigt ist und keine Rechnung mehr offen steht.",
    "What is heavier, a kilogram of feathers or a kilogram of iron? Neither: a kilogram is a kilogram. The "
    "feathers only take more room. Ask children this question and most of them say iron; ask them again a year "
    "later, and they will ask you something harder in return.",
)
