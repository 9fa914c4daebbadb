from ._ahead import ahead as ahead
from ._catalog import builder_source as builder_source, tfds_source as tfds_source
from ._decode import (
    Description as Description,
    decode_image as decode_image,
    decode_whole as decode_whole,
    describe as describe,
    read_encoded as read_encoded,
    read_image as read_image,
)
from ._folders import (
    Listing as Listing,
    PictureFile as PictureFile,
    class_folders as class_folders,
    count_by_suffix as count_by_suffix,
    divide as divide,
    folder as folder,
    pictures_below as pictures_below,
)
from ._lists import (
    format_list as format_list,
    label_file as label_file,
    list_file as list_file,
    parse_labels as parse_labels,
    parse_list as parse_list,
)
from ._packed import packed as packed
from ._published import (
    PublishedFile as PublishedFile,
    encode_jpeg as encode_jpeg,
    published_file as published_file,
    strip_metadata as strip_metadata,
)
from ._records import Folder as Folder, Labels as Labels, Sample as Sample, Skipped as Skipped, Split as Split
from ._sample import (
    SAMPLE_SIDE as SAMPLE_SIDE,
    load_sample as load_sample,
    sample_record as sample_record,
    unpack_sheet as unpack_sheet,
)
from ._sources import (
    Chunk as Chunk,
    Source as Source,
    chunks as chunks,
    class_tree as class_tree,
    concatenate as concatenate,
    load as load,
    shuffled as shuffled,
    subset as subset,
)
from ._splits import (
    Definition as Definition,
    check_ids as check_ids,
    choose as choose,
    definition as definition,
    divide_source as divide_source,
    id_digest as id_digest,
    load_list as load_list,
    split_names as split_names,
)
