"""The Lua scripts of a deployment on Redis. What each needs and gives stands at the top of its file."""

from typing import Final

from service.redis.scripts import Script

PUSH: Final = Script(__package__, "push.lua")
READ: Final = Script(__package__, "read.lua")
EPOCH: Final = Script(__package__, "epoch.lua")
MOMENT: Final = Script(__package__, "moment.lua")
SWEEP: Final = Script(__package__, "sweep.lua")
LOGINS: Final = Script(__package__, "logins.lua")
REVOCATIONS: Final = Script(__package__, "revocations.lua")
LEASE_TAKE: Final = Script(__package__, "lease_take.lua")
LEASE_RENEW: Final = Script(__package__, "lease_renew.lua")
LEASE_RELEASE: Final = Script(__package__, "lease_release.lua")
NODES_LOOK: Final = Script(__package__, "nodes_look.lua")
NODE_BURY: Final = Script(__package__, "node_bury.lua")
REGISTRY_POP: Final = Script(__package__, "registry_pop.lua")
QUOTAS_SETTLE: Final = Script(__package__, "quotas_settle.lua")
INGRESS_SETTLE: Final = Script(__package__, "ingress_settle.lua")
INGRESS_FORGET: Final = Script(__package__, "ingress_forget.lua")
EVENTS_APPEND: Final = Script(__package__, "events_append.lua")
EVENTS_OFFLINE: Final = Script(__package__, "events_offline.lua")
EVENTS_OWN: Final = Script(__package__, "events_own.lua")

ORDERED: Final = (PUSH, READ, EPOCH, MOMENT, LOGINS)
"""Those whose calls must keep their order, so that each connection loads them first."""
