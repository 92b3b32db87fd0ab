"""The core: every rule of XEP-0405, and no socket, clock or Redis.

Stanzas, events and stored state go in; effects come out (`effects`). The shell gives the time
and carries the effects out. From the top down, and each imports only what stands below it:

`machine`       the interface to the shell; dispatches stanzas by address
`parts`         constructs all of the following for one core, and connects them
`blocking`      follows changes of users' blocking lists (XEP-0191)
`left_out`      handles stanzas that could not be read, by their kind
`snapshot`      all records, for a store that has lost them
`checks/`       do memory, roster and channel still agree? `roster_audit` after each link,
                `participant_audit` asks channels, `reread` after a roster change that could not
                be read, `reconcile` when an operator wants it; `findings` of that
`membership/`   joining and leaving: `requests` are read, `memberships` begins changes (how often:
                `join_rate`, in whose turn: `turns`, many at once: `background_leaves`), `change`
                is one under way and `steps` what it does, `answers` come from the channel,
                `ledger` and `journal` keep what was asked, `endings` have no request
`presence/`     `devices` come and go, `capability` tells which speak MIX, `announce` shows them
                to channels (`preferences`: whether, `hidden`: who has blocked); `participants`
                are shown to devices, from `presence_memory`; many at once in `portions`
`delivery/`     from a channel to devices. `delivery` decides, by `passage` (is the channel joined,
                and may this pass now?); `fanout` copies for one user, `multicast` for many,
                `shortcut` plain messages; `join_buffer` holds back during a join, `payer`
                tells in whose turn the rest is, `translation` is between MIX core 0 and 1
`roster/`       `access` to rosters, `annotate` with participant ids, `candidates` for channels
`services`      which domains are MIX services; tells the taps
`taps`          what the taps say; `about`: disco, version, ping; `commands`: XEP-0050
`outgoing`      in whose name the component may speak, and to whom; the last that judges a stanza
`context`       state shared by all of these: time, effects, open questions, the mirror
`effects`       outputs to the shell; `reach`: how many domains are addressed in a second
`users/`        `mirror`: a row for each user; its `activity` and `sessions`, `packed` small,
                `routes` for the hot lane; `trimmed_presence`
`errors`        stanza errors; `limits`, `deadlines`, `rates`, `stanza_size`, `lane_counts`

New: annotations (XEP-0310), catch-up and routing get a room each beside `delivery/`.
"""
