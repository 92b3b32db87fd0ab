%%% Keeps every archive out of a benchmark. mod_mix insists on mod_mam and keeps each
%%% channel's messages under one dets key, so that the server slows down by the minute
%%% and the comparison drifts; this answers the hook before mod_mam (100) can write, and before
%%% the tap (40) asks the roster about what is going to be written.
-module(mod_bench_no_archive).
-behaviour(gen_mod).

-export([start/2, stop/1, reload/3, depends/2, mod_options/1, mod_doc/0]).
-export([store_mam_message/7, store_mam_message/8]).

depends(_Host, _Opts) -> [{mod_mam, hard}].
mod_options(_Host) -> [].
mod_doc() -> #{}.

start(Host, _Opts) -> ejabberd_hooks:add(store_mam_message, Host, ?MODULE, store_mam_message, 30).
stop(Host) -> ejabberd_hooks:delete(store_mam_message, Host, ?MODULE, store_mam_message, 30).
reload(_Host, _New, _Old) -> ok.

store_mam_message(Pkt, _User, _Host, _Peer, _Nick, _Type, _Dir) -> {stop, Pkt}.
store_mam_message(Pkt, _User, _Host, _Peer, _Nick, _Type, _Dir, _InMuc) -> {stop, Pkt}.
