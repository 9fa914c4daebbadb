"""Private content-based image search in JAX.

Import the rooms you need: `jcbir.codes`, `jcbir.metrics`, `jcbir.models`, `jcbir.hashing`, `jcbir.paillier`,
`jcbir.ranking`, `jcbir.cipher`, `jcbir.sealing`, `jcbir.protocol`. Importing any of them starts no backend and changes
no JAX setting.
"""

__version__ = "0.1.0"
