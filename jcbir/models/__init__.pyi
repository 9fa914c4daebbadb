from ._backbone import (
    Backbone as Backbone,
    attach as attach,
    describe as describe,
    parse as parse,
    run as run,
    shapes as shapes,
)
from ._bundled import bundled as bundled, untrained as untrained
from ._convolution import convolve as convolve
from ._downloads import Source as Source, network as network, sources as sources
from ._parallel import replicate as replicate, split_batch as split_batch
from ._preprocessing import Preprocessing as Preprocessing, preprocess as preprocess
from ._pretrained import from_keras as from_keras, from_torch as from_torch
from ._resnet import ResNet as ResNet, small as small
from ._storage import halve as halve, widen as widen
