"""HTTP requests that the gateway makes: bounded in time and bytes, signed, and only to addresses that are allowed."""
