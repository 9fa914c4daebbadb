from ._bundled import SIDE as SIDE, load_sample as load_sample, unpack_sheet as unpack_sheet
from ._decode import decode_image as decode_image
from ._lazy import (
    Source as Source,
    chunks as chunks,
    concatenate as concatenate,
    load as load,
    shuffled as shuffled,
    subset as subset,
)
from ._packed import packed as packed
from ._records import Labels as Labels, Sample as Sample, Split as Split
from ._sources import class_folders as class_folders, folder as folder
from ._splits import choose as choose, divide_source as divide_source, id_digest as id_digest, load_list as load_list
