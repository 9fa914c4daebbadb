"""Cloud and authority as HTTP services, and the client that speaks to them."""
