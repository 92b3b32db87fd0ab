%%% The virtual hosts with the tap: tables, processes and hooks are added when a host starts, and
%%% removed when it stops.
-module(mod_mixpam_tap_hosts).

-export([start/2, stop/1]).

-include("ejabberd_router.hrl").

-define(PAM, [<<"urn:xmpp:mix:pam:0">>, <<"urn:xmpp:mix:pam:1">>, <<"urn:xmpp:mix:pam:2">>]).

%% Also for a domain that is already started: the module may be listed twice, or upgraded.
-spec start(binary(), binary()) -> ok.
start(Host, Component) ->
    %% One row per domain while the component is connected, one per MIX domain for ever.
    %% Mnesia shares them with the cluster's other nodes.
    _ = ejabberd_mnesia:create(?MODULE, mixpam_link,
          [{ram_copies, [node()]}, {attributes, [host, pid, state]}]),
    _ = ejabberd_mnesia:create(?MODULE, mixpam_service,
          [{disc_copies, [node()]}, {attributes, [key, value]}]),
    %% Available sessions, by domain and full JID as text: for C6.
    _ = ejabberd_mnesia:create(?MODULE, mixpam_online,
          [{ram_copies, [node()]}, {attributes, [key, pid]}]),
    ok = mod_mixpam_tap_rosters:start(),
    mod_mixpam_tap_link:forget_links(node()), % of the node's previous run
    {Before, Hooks} = mod_mixpam_tap_link:serve(Host, Component, hooks(Host)),
    ok = mod_mixpam_tap_sup:start(Host),
    [ejabberd_hooks:add(Hook, At, Module, Fun, Prio)
     || {Hook, At, Module, Fun, Prio} <- hooks(Host)],
    %% Hooks of a previous version that this one no longer has.
    [ejabberd_hooks:delete(Hook, At, Module, Fun, Prio)
     || {Hook, At, Module, Fun, Prio} <- Hooks -- hooks(Host)],
    [gen_iq_handler:add_iq_handler(ejabberd_sm, Host, NS, mod_mixpam_tap_sessions, process_iq)
     || NS <- ?PAM],
    _ = Before == none orelse Before == Component orelse mod_mixpam_tap_link:forget_link(Host),
    %% The component may be connected already, when the module is reloaded. On another node it has
    %% got everything, except sessions that are older than this node's tap.
    [mod_mixpam_tap_link:connect([Host], Pid)
     || Pid <- lists:sublist(routes(Component), 1),
        node(Pid) == node() orelse has_sessions(Host)],
    ok.

-spec has_sessions(binary()) -> boolean().
has_sessions(Host) ->
    lists:any(fun({U, S, R}) ->
                  Pid = ejabberd_sm:get_session_pid(U, S, R),
                  is_pid(Pid) andalso node(Pid) == node()
              end, ejabberd_sm:get_vh_session_list(Host)).

-spec stop(binary()) -> ok.
stop(Host) ->
    [gen_iq_handler:remove_iq_handler(ejabberd_sm, Host, NS) || NS <- ?PAM],
    Others = lists:delete(Host, mod_mixpam_tap_link:hosts()),
    [ejabberd_hooks:delete(Hook, At, Module, Fun, Prio)
     || {Hook, At, Module, Fun, Prio} <- hooks(Host), At /= global orelse Others == []],
    %% A link to another node goes on there.
    [mod_mixpam_tap_link:forget_link(Host)
     || {_, _, Pid, _} <- ets:lookup(mixpam_link, Host), node(Pid) == node()],
    mod_mixpam_tap_sup:stop(Host),
    mod_mixpam_tap_online:leave(Host),
    _ = mod_mixpam_tap_link:forget(Host),
    ok.

-spec routes(binary()) -> [pid()].
routes(Component) ->
    case (ejabberd_router:get_backend()):find_routes(Component) of
        {ok, Routes} -> [Pid || #route{pid = Pid} <- Routes];
        _ -> []
    end.

-spec hooks(binary()) -> [mod_mixpam_tap_link:hook()].
hooks(Host) ->
    Link = mod_mixpam_tap_link,
    Channels = mod_mixpam_tap_channels,
    Sessions = mod_mixpam_tap_sessions,
    Rosters = mod_mixpam_tap_rosters,
    Lists = mod_mixpam_tap_lists,
    [{Hook, At, Module, Hook, Prio} || {Hook, At, Module, Prio} <- [
     %% Before mod_privilege and mod_delegation (50): those of 24.10 to 24.12 drop
     %% every IQ of any component.
     {component_send_packet, global, Link, 40},
     {component_connected, global, Link, 50},
     {component_disconnected, global, Link, 50},
     %% mod_roster asks the global hook whether a channel may hear "unavailable".
     {privacy_check_packet, global, Lists, 40},
     %% mod_privacy (50) ignores the previous result, so a decision before it must be final.
     {privacy_check_packet, Host, Lists, 40},
     %% After mod_mam (50), which removes forged ids and sets the new one.
     {sm_receive_packet, Host, Channels, 60},
     %% Before every consumer: mod_mam writes at 100, mod_push notifies at 50.
     {store_mam_message, Host, Channels, 40},
     %% Before other handlers of an IQ or a presence without another destination.
     {user_send_packet, Host, Sessions, 40},
     %% Last but for mod_mam (88) and carbons (89), which do not look at IQs.
     {user_receive_packet, Host, Sessions, 87},
     %% Before mod_stream_mgmt (50), which re-routes its queue at the end, and
     %% before ejabberd_c2s (100), which logs what it does not know.
     {c2s_handle_info, Host, Sessions, 40},
     {c2s_terminated, Host, Sessions, 40},
     {c2s_copy_session, Host, Sessions, 50},
     %% After mod_avatar, mod_vcard_xupdate: what contacts see is what goes out.
     {c2s_self_presence, Host, Sessions, 95},
     {c2s_session_pending, Host, Sessions, 90},
     {c2s_session_resumed, Host, Sessions, 90},
     %% After mod_shared_roster (50) and mod_roster (50), which decide.
     {roster_process_item, Host, Rosters, 90},
     {roster_in_subscription, Host, Rosters, 60},
     {roster_out_subscription, Host, Rosters, 60},
     {disco_sm_features, Host, Sessions, 60},
     {remove_user, Host, Rosters, 90},
     {s2s_out_auth_result, Host, Link, 90},
     {s2s_in_auth_result, Host, Link, 90},
     {s2s_receive_packet, Host, Link, 90},
     {s2s_out_closed, Host, Link, 90}]]
    ++ [%% mod_privacy (50) has noted which list the session uses.
        {user_send_packet, Host, Lists, list_used, 60},
        %% Before mod_shared_roster (30) and mod_roster (50).
        {roster_in_subscription, Host, Rosters, before_subscription, 20},
        {roster_out_subscription, Host, Rosters, before_subscription, 20}].
