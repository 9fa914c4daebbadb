from . import analysis as analysis, stages as stages
