from ._backbones import (
    Check as Check,
    check_weights as check_weights,
    convert_weights as convert_weights,
    fetch_weights as fetch_weights,
    list_weights as list_weights,
    load_backbone as load_backbone,
)
from ._cards import card_fingerprint as card_fingerprint, read_card as read_card, write_card as write_card
from ._files import write_file as write_file
from ._identities import read_identity as read_identity, write_identity as write_identity
from ._images import write_image as write_image
from ._journal import keep_order as keep_order, load_authority as load_authority, open_journal as open_journal
from ._keys import read_secret as read_secret, write_secret as write_secret
from ._load import load_server as load_server
from ._maintenance import (
    Health as Health,
    backup_store as backup_store,
    compact_store as compact_store,
    verify_store as verify_store,
)
from ._runs import best_state as best_state, train_run as train_run
from ._store import (
    Store as Store,
    append_segment as append_segment,
    create_store as create_store,
    open_store as open_store,
)
from ._weights import read_weights as read_weights, write_weights as write_weights
