"""The Lua scripts of a deployment on Redis. What each needs and gives stands at the top of its file."""

from typing import Final

from service.redis.scripts import Script

PUSH: Final = Script(__package__, "push.lua")
READ: Final = Script(__package__, "read.lua")
EPOCH: Final = Script(__package__, "epoch.lua")
ALL: Final = (PUSH, READ, EPOCH)
