"""The words that instruments are made of: short, common, each in one list only."""

KEYS = tuple(
    """
    lamp river door table garden window road bridge tower market school office kitchen bottle
    basket wagon ship train engine wheel hammer ladder mirror carpet curtain pillow blanket candle
    clock watch camera radio phone letter paper pencil book map coin ring crown sword shield
    flag drum piano guitar violin bell ball kite doll puzzle mask hat coat shirt shoe glove
    scarf belt button pocket needle thread box bag cup plate bowl spoon fork knife pot pan
    oven stove soap brush comb towel tent rope chain lock key gate fence wall roof floor
    stair chair bench desk bed shelf drawer cart boat plane truck bus car bike sled barn
    farm field mill mine port dock park zoo shop bank hotel church castle palace temple
    station stadium museum library
    """.split()  # noqa: SIM905 (a list would be a line a word)
)
VALUES = tuple(
    """
    stone cloud milk bread butter cheese apple pear plum peach cherry lemon orange grape melon
    onion carrot potato bean rice corn wheat salt pepper sugar honey tea coffee juice water soup
    meat fish egg cake pie nut seed leaf root tree bush grass flower rose moss wood bark
    gold silver iron copper steel glass clay sand dust mud ash coal oil gas smoke fire
    ice snow rain wind storm fog sun moon star sky sea lake hill cave rock island beach
    forest desert valley horse cow sheep goat pig dog cat mouse rat rabbit fox wolf bear
    lion tiger monkey deer duck goose hen crow owl eagle swan frog snake turtle bee ant
    spider worm shark whale crab cotton wool silk leather rubber plastic
    """.split()  # noqa: SIM905 (a list would be a line a word)
)
PEOPLE = tuple(
    """
    Anna Ben Clara David Emma Frank Grace Henry Irene Jack Kate Leo Maria Nick Olga Paul
    Rosa Sam Tina Victor Wendy Adam Betty Carl Diana Eric Fiona George Helen Ivan Julia Kevin
    Laura Mark Nora Oscar Peter Ruth Simon Tom Uma Walter Alice Bruno Cecil Dora Edgar Sofia
    """.split()  # noqa: SIM905 (a list would be a line a word)
)
CLUBS = tuple(
    """
    chess music dance tennis golf cooking reading science history poetry swimming running
    painting drama sailing climbing
    """.split()  # noqa: SIM905 (a list would be a line a word)
)
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
