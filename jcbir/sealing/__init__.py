"""Images and image keys under seal: what a stranger may store, and nobody may alter unseen.

A sealed image is a header in the clear and a content: extents, the image's rows encrypted (an `ImageCipher`, or nothing
further), zeros up to one of few lengths. It goes through AES-256-GCM in chunks, with header and chunk number as
associated data. So a wrong key, a swapped id, an edited header, a missing, moved or changed byte end in an error, never
in a wrong picture. The bytes are laid out in `jcbir.sealing._format`.

The GCM key is fresh with every (image key, nonce), so chunk numbers never repeat under it. An image of up to 2^22
pixels is one strip for its cipher; larger ones are cut into strips of at most that. The chunks are the STREAM
construction, their count fixed by the verified extents: 100 megapixels stream through a small memory. The Lorenz layer
adds no security we can prove; confidentiality and integrity rest on AES-GCM.

References:
    McGrew and Viega, The Galois/Counter Mode of Operation, 2004; Hoang, Reyhanitabar, Rogaway and Vizár, Online
    Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, CRYPTO 2015 (STREAM); Barnes et al., RFC 9180, 2022.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
