"""Private content-based image search in JAX.

`import jcbir` loads nothing; `jcbir.metrics`, `jcbir.paillier` and the others load when they are first touched. Loading
any of them starts no backend and changes no JAX setting.
"""

__version__ = "0.1.0"


def __getattr__(name):
    # At the top it would take longer than all that happens before the command line answers Ctrl-C.
    import lazy_loader as lazy

    face = dict(zip(("__getattr__", "__dir__", "__all__"), lazy.attach_stub(__name__, __file__), strict=True))
    globals().update(face)
    return face[name] if name in face else face["__getattr__"](name)


def __dir__():
    return __getattr__("__all__")
