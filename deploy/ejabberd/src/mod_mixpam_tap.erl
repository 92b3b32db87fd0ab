%%% The tap of mixpam for ejabberd 23.01 and later: it puts what a MIX-PAM server
%%% must see (XEP-0405) onto one XEP-0114 link, and carries out what the component sends back. No
%%% policy; the contract is tap-protocol.md, and T1..T10 and C1..C6 in these files are its rows.
%%% Records are those of the server's own header files, as ejabberd itself compiles this; stanzas
%%% are accessed only through xmpp:*.
%%%
%%% This module is what ejabberd starts and stops. Hooks and processes are in the others,
%%% because of `module_upgrade`: it removes this one, and compiles for a while before there is a new
%%% one. Until then the others go on unchanged.
%%%
%%%   mod_mixpam_tap_hosts        what each virtual host gets: tables, processes, hooks
%%%   mod_mixpam_tap_link         the link, its states and events
%%%   mod_mixpam_tap_component    what the component sends is sorted: C1 to C6
%%%   mod_mixpam_tap_channels     from channels: T1, T2, T3, T9; the archive
%%%   mod_mixpam_tap_batches      several at once: T10; mod_mixpam_tap_gatherer sends them
%%%   mod_mixpam_tap_sessions     users' sessions, to which C1 and C6 go
%%%   mod_mixpam_tap_annotations  their rosters: T4
%%%   mod_mixpam_tap_requests     their requests: T5
%%%   mod_mixpam_tap_online       which there are, and their presence: T6, T7
%%%   mod_mixpam_tap_rosters      rosters and members: C3, T8
%%%   mod_mixpam_tap_lists        whom a user has blocked, in C2 too
%%%   mod_mixpam_tap_keeper       the lasting process; mod_mixpam_tap_sup supervises
-module(mod_mixpam_tap).
-behaviour(gen_mod).

-export([start/2, stop/1, reload/3, depends/2, mod_opt_type/1, mod_options/1, mod_doc/0]).
-export([pre_uninstall/0]).

-include("logger.hrl").

-define(OTHERS, [mod_mixpam_tap_hosts, mod_mixpam_tap_link, mod_mixpam_tap_component,
                 mod_mixpam_tap_channels, mod_mixpam_tap_batches, mod_mixpam_tap_gatherer,
                 mod_mixpam_tap_sessions, mod_mixpam_tap_annotations, mod_mixpam_tap_requests,
                 mod_mixpam_tap_online, mod_mixpam_tap_rosters, mod_mixpam_tap_lists,
                 mod_mixpam_tap_keeper, mod_mixpam_tap_sup]).
-define(PURGE, 10000). % ms that a process may still run the version before the current one

-spec depends(binary(), gen_mod:opts()) -> [{module(), hard | soft}].
depends(_Host, _Opts) -> [{mod_roster, hard}, {mod_mam, soft}].
-spec mod_opt_type(atom()) -> econf:validator().
mod_opt_type(component) -> econf:domain().
-spec mod_options(binary()) -> [atom() | {atom(), any()}].
mod_options(_Host) -> [component].
-spec mod_doc() -> map().
mod_doc() ->
    #{desc =>
          [<<"This module connects the mixpam component, which adds "
             "https://xmpp.org/extensions/xep-0405.html[XEP-0405: Mediated Information "
             "eXchange (MIX): Participant Server Requirements] to the users of this server. "
             "It shows the component what a MIX-PAM server must see, over the component's own "
             "connection (a listener with module 'ejabberd_service'), and delivers what the "
             "component sends to users' sessions. Messages of channels are archived by "
             "_`mod_mam`_ where that archives by default.">>,
           <<"_`mod_roster`_ is required. _`mod_mix_pam`_ does the same job: this module does "
             "not start where that is enabled. _`mod_mix`_ (channels) is welcome.">>],
      opts =>
          [{component,
            #{value => <<"Domain">>,
              desc =>
                  <<"The domain of the mixpam component: one of the 'hosts' of its listener. "
                    "Several virtual hosts may have the same one. There is no default.">>}}],
      example =>
          [<<"listen:">>,
           <<"  -">>,
           <<"    port: 5347">>,
           <<"    ip: 127.0.0.1">>,
           <<"    module: ejabberd_service">>,
           <<"    check_from: false">>,
           <<"    global_routes: false">>,
           <<"    shaper: none">>,
           <<"    max_fsm_queue: 100000">>,
           <<"    hosts:">>,
           <<"      mixpam.example.org:">>,
           <<"        password: secret">>,
           <<"modules:">>,
           <<"  mod_mixpam_tap:">>,
           <<"    component: mixpam.example.org">>]}.

-spec start(binary(), gen_mod:opts()) -> ok | {error, any()}.
start(Host, Opts) ->
    case lists:keymember(mod_mix_pam, 1, ejabberd_option:modules(Host)) of
        true ->
            ?CRITICAL_MSG("mod_mixpam_tap refuses to start: remove mod_mix_pam from the "
                          "modules of ~ts, both would answer for the same channels", [Host]),
            {error, mod_mix_pam_is_loaded};
        false ->
            exchange(),
            mod_mixpam_tap_hosts:start(Host, gen_mod:get_opt(component, Opts))
    end.

-spec stop(binary()) -> ok.
stop(Host) ->
    case mod_mixpam_tap_keeper:is_upgraded() of
        true -> ok; % the keeper stops hosts that were not started again
        false -> mod_mixpam_tap_hosts:stop(Host)
    end.

-spec reload(binary(), gen_mod:opts(), gen_mod:opts()) -> ok.
reload(Host, NewOpts, _OldOpts) ->
    mod_mixpam_tap_hosts:start(Host, gen_mod:get_opt(component, NewOpts)).

%% Called by module_upgrade (and module_uninstall) before it stops this module.
-spec pre_uninstall() -> ok.
pre_uninstall() -> mod_mixpam_tap_keeper:upgrade().

%% Recompiled modules are loaded in one step; hooks return, and processes go on in the new code with
%% the next message. A process that is still in the version before the current one, since the
%% previous upgrade, waits for a database: purging that version would kill it.
-spec exchange() -> ok.
exchange() ->
    case [M || M <- ?OTHERS, is_changed(M)] of
        [] -> ok;
        Changed ->
            purge(Changed, ?PURGE),
            ok = code:atomic_load(Changed)
    end.

-spec purge([module()], non_neg_integer()) -> ok.
purge(Modules, Wait) ->
    case [M || M <- Modules, not code:soft_purge(M)] of
        [] -> ok;
        Busy when Wait > 0 ->
            timer:sleep(100),
            purge(Busy, Wait - 100);
        Busy ->
            ?WARNING_MSG("mod_mixpam_tap: who is in an old version of ~0tp is ended", [Busy]),
            lists:foreach(fun code:purge/1, Busy)
    end.

-spec is_changed(module()) -> boolean().
is_changed(Module) ->
    case code:get_object_code(Module) of
        {Module, Binary, _} ->
            {ok, {Module, MD5}} = beam_lib:md5(Binary),
            code:is_loaded(Module) == false orelse Module:module_info(md5) /= MD5;
        error -> false
    end.
