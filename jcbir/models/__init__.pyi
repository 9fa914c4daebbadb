from ._backbone import (
    Backbone as Backbone,
    attach as attach,
    output_width as output_width,
    resnet_backbone as resnet_backbone,
    resnet_module as resnet_module,
    run as run,
    shapes as shapes,
    trainable as trainable,
)
from ._bundled import bundled as bundled, untrained as untrained
from ._convolution import convolve as convolve
from ._downloads import Download as Download, downloads as downloads, network as network
from ._files import restore as restore, stored_variables as stored_variables
from ._haiku import from_haiku as from_haiku, to_haiku as to_haiku
from ._heads import Head as Head, attach_head as attach_head, project_head as project_head
from ._imagenet import imagenet_resnet50 as imagenet_resnet50
from ._imagenet_file import imagenet_record as imagenet_record, imagenet_weights as imagenet_weights
from ._parallel import replicate as replicate, split_batch as split_batch
from ._preprocessing import Preprocessing as Preprocessing, preprocess as preprocess
from ._pretrained import from_keras as from_keras, from_torch as from_torch, to_torch as to_torch
from ._readers import read_tfjs as read_tfjs, read_torch as read_torch
from ._resnet import (
    Outputs as Outputs,
    ResNet as ResNet,
    resnet18 as resnet18,
    resnet34 as resnet34,
    resnet50 as resnet50,
    resnet101 as resnet101,
    small as small,
)
from ._storage import halve as halve, widen as widen
