"""The four parties as pure functions `(state, message) -> (state, message)`: owner, server, authority, user."""
