%%% The tap of mixpam for ejabberd 23.01 and later: it puts what a MIX-PAM server
%%% must see (XEP-0405) onto one XEP-0114 link, and does what the component sends
%%% back. No policy; the contract is tap-protocol.md, and T1..T10 and C1..C6 below
%%% are its rows. Stanzas are touched through xmpp:* alone, so that one source,
%%% and one .beam, serves all versions without header files. The "link" is the
%%% process of the component's connection.
-module(mod_mixpam_tap).
-behaviour(gen_mod).

-export([start/2, stop/1, reload/3, depends/2, mod_opt_type/1, mod_options/1, mod_doc/0]).
-export([component_connected/1, component_disconnected/2, component_send_packet/1,
         sm_receive_packet/1, store_mam_message/7, store_mam_message/8, privacy_check_packet/4,
         user_send_packet/1, user_receive_packet/1, c2s_handle_info/2, c2s_copy_session/2,
         c2s_self_presence/1, c2s_terminated/2, c2s_session_pending/1, c2s_session_resumed/1,
         roster_process_item/2, roster_in_subscription/2, roster_out_subscription/1,
         disco_sm_features/5, remove_user/2, s2s_out_auth_result/2, s2s_in_auth_result/3,
         s2s_out_closed/2, process_iq/1, decode_iq_subel/1, replay/2, gatherer/2]).

-define(VERSION, <<"1.1">>).
-define(CROWD, 50). % stanzas before the link, above which presence and events wait
-define(FLOOD, 100000). % messages before a link that takes none, above which it is closed
-define(PATIENCE, 5). % ms that a message waits for others at most
-define(READ, 65536). % bytes
-define(ADDRESSES, 500).
-define(ADDRESSES_BYTES, 65536).
-define(ADDRESS, <<"http://jabber.org/protocol/address">>).
-define(SID, <<"urn:xmpp:sid:0">>).
-define(TAP, <<"mixpam:tap:1">>).
-define(ROSTER, <<"jabber:iq:roster">>).
-define(ANNOTATE, {xmlel, <<"annotate">>, [{<<"xmlns">>, <<"urn:xmpp:mix:roster:0">>}], []}).
-define(PAM, [<<"urn:xmpp:mix:pam:0">>, <<"urn:xmpp:mix:pam:1">>, <<"urn:xmpp:mix:pam:2">>]).
-define(ROSTER_TIMEOUT, 5000).
-define(BATCH, 500).

%%% Module

depends(_Host, _Opts) -> [{mod_roster, hard}, {mod_mam, soft}].
mod_opt_type(component) -> econf:domain().
mod_options(_Host) -> [component].
mod_doc() -> #{}.

start(Host, _Opts) ->
    case lists:keymember(mod_mix_pam, 1, ejabberd_option:modules(Host)) of
        true ->
            logger:critical("mod_mixpam_tap refuses to start: remove mod_mix_pam from the "
                            "modules of ~ts, both would answer for the same channels", [Host]),
            {error, mod_mix_pam_is_loaded};
        false ->
            %% One row per domain while the component is connected, one per MIX
            %% domain for ever. Mnesia shares them with the cluster's other nodes.
            _ = ejabberd_mnesia:create(?MODULE, mixpam_link,
                  [{ram_copies, [node()]}, {attributes, [host, pid, state]}]),
            _ = ejabberd_mnesia:create(?MODULE, mixpam_service,
                  [{disc_copies, [node()]}, {attributes, [key, value]}]),
            %% This node's available sessions, by domain and full JID as text: for C6.
            _ = ejabberd_mnesia:create(?MODULE, mixpam_session,
                  [{ram_copies, [node()]}, {local_content, true}, {attributes, [key, pid]}]),
            [ejabberd_hooks:add(Hook, At, ?MODULE, Hook, Prio) || {Hook, At, Prio} <- hooks(Host)],
            [gen_iq_handler:add_iq_handler(ejabberd_sm, Host, NS, ?MODULE, process_iq)
             || NS <- ?PAM],
            %% The component may be here already, when the module is reloaded.
            [connect([Host], Pid) || Pid <- lists:sublist(routes(component(Host)), 1)],
            ok
    end.

stop(Host) ->
    [gen_iq_handler:remove_iq_handler(ejabberd_sm, Host, NS) || NS <- ?PAM],
    Shared = gen_mod:is_loaded_elsewhere(Host, ?MODULE),
    [ejabberd_hooks:delete(Hook, At, ?MODULE, Hook, Prio)
     || {Hook, At, Prio} <- hooks(Host), At /= global orelse not Shared],
    forget_gatherer(Host),
    [mnesia:dirty_delete_object(Row)
     || Row <- ets:match_object(mixpam_session, {'_', {Host, '_'}, '_'})],
    mnesia:dirty_delete(mixpam_link, Host).

reload(Host, NewOpts, _OldOpts) ->
    stop(Host),
    start(Host, NewOpts).

hooks(Host) ->
    [%% Before mod_privilege and mod_delegation (50): those of 24.10 to 24.12 drop
     %% every IQ of any component.
     {component_send_packet, global, 40},
     {component_connected, global, 50},
     {component_disconnected, global, 50},
     %% mod_roster asks the global hook whether a channel may hear "unavailable".
     {privacy_check_packet, global, 40},
     %% mod_privacy (50) forgets what it is given, so the word before it is final.
     {privacy_check_packet, Host, 40},
     %% After mod_mam (50), which removes forged ids and sets the new one.
     {sm_receive_packet, Host, 60},
     %% Before every consumer: mod_mam writes at 100, mod_push notifies at 50.
     {store_mam_message, Host, 40},
     %% Before what others do to an IQ or a presence that goes nowhere else.
     {user_send_packet, Host, 40},
     %% Last but for mod_mam (88) and carbons (89), which do not look at IQs.
     {user_receive_packet, Host, 87},
     %% Before mod_stream_mgmt (50), which re-routes its queue at the end, and
     %% before ejabberd_c2s (100), which logs what it does not know.
     {c2s_handle_info, Host, 40},
     {c2s_terminated, Host, 40},
     {c2s_copy_session, Host, 50},
     %% After mod_avatar, mod_vcard_xupdate: what contacts see is what goes out.
     {c2s_self_presence, Host, 95},
     {c2s_session_pending, Host, 90},
     {c2s_session_resumed, Host, 90},
     %% After mod_shared_roster (50) and mod_roster (50), which decide.
     {roster_process_item, Host, 90},
     {roster_in_subscription, Host, 60},
     {roster_out_subscription, Host, 60},
     {disco_sm_features, Host, 60},
     {remove_user, Host, 90},
     {s2s_out_auth_result, Host, 90},
     {s2s_in_auth_result, Host, 90},
     {s2s_out_closed, Host, 90}].

%%% The link

component(Host) -> gen_mod:get_module_opt(Host, ?MODULE, component).

routes(Component) ->
    case (ejabberd_router:get_backend()):find_routes(Component) of
        {ok, Routes} -> [element(4, Route) || Route <- Routes];
        _ -> []
    end.

%% Reads the Mnesia tables' local ETS copy: this is asked for every stanza.
link_of(Host) ->
    case ets:lookup(mixpam_link, Host) of
        [{_, _, Pid, State}] when State /= opening -> {Pid, State};
        _ -> none
    end.

is_mix(Host, Domain) -> ets:member(mixpam_service, {Host, Domain}).

to_link(Host, Pkt) ->
    case link_of(Host) of
        {Pid, _} -> send(Pid, Pkt);
        none -> none
    end.

send(Link, Pkt) -> ejabberd_cluster:send(Link, {route, Pkt}).

stanza(Name, Attrs, Child) ->
    xmpp:decode({xmlel, Name, Attrs, [Child]}, <<"jabber:client">>, [ignore_els]).

event(Host, Name, Attrs) ->
    stanza(<<"message">>, [{<<"from">>, Host}, {<<"to">>, component(Host)}],
           {xmlel, Name, [{<<"xmlns">>, ?TAP} | Attrs], []}).

hello(Host) ->
    event(Host, <<"hello">>,
          [{<<"version">>, <<"1">>}, {<<"tap">>, ?VERSION},
           {<<"software">>, iolist_to_binary(["ejabberd ", ejabberd_option:version()])},
           {<<"archive">>, atom_to_binary(archives(Host), utf8)},
           %% A strict ejabberd would drop the ids from the addresses of C6.
           {<<"multicast">>, atom_to_binary(not ejabberd_option:validate_stream(), utf8)}]).

archives(Host) ->
    gen_mod:is_loaded(Host, mod_mam)
        andalso gen_mod:get_module_opt(Host, mod_mam, default) == always.

%% Runs in the link's process. One connection at a time: a second one is told so
%% at once, and cannot take stanzas from the first.
component_connected(Component) ->
    with_large_reads(self()),
    Hosts = [H || H <- ejabberd_option:hosts(), gen_mod:is_loaded(H, ?MODULE),
                  component(H) == Component],
    case connect(Hosts, self()) of
        ok -> ok;
        conflict ->
            logger:warning("mod_mixpam_tap: a second connection of ~ts is refused", [Component]),
            ejabberd_router:unregister_route(Component),
            ejabberd_service:send(self(), xmpp:serr_conflict())
    end.

%% The socket's own 1,460 bytes would cut a C6 into several reads, each with its wake-up.
with_large_reads(Link) ->
    {links, Linked} = process_info(Link, links),
    [inet:setopts(Port, [{buffer, ?READ}]) || Port <- Linked, is_port(Port)].

%% While the row says `opening` nobody else writes to the link: hello is first.
connect(Hosts, Pid) ->
    Claim = fun() ->
        case [P || H <- Hosts, {_, _, P, _} <- mnesia:read(mixpam_link, H, write),
                   P /= Pid, alive(P)] of
            [] -> lists:foreach(fun(H) -> mnesia:write({mixpam_link, H, Pid, opening}) end, Hosts);
            _ -> conflict
        end
    end,
    case mnesia:transaction(Claim) of
        {atomic, conflict} -> conflict;
        {atomic, ok} ->
            lists:foreach(fun(Host) ->
                              forget_gatherer(Host),
                              send(Pid, hello(Host)),
                              mnesia:dirty_write({mixpam_link, Host, Pid, connected}),
                              spawn(?MODULE, replay, [Host, Pid])
                          end, Hosts)
    end.

alive(Pid) when node(Pid) == node() -> is_process_alive(Pid);
alive(Pid) -> lists:member(node(Pid), ejabberd_cluster:get_nodes()).

component_disconnected(_Component, _Reason) ->
    [begin forget_gatherer(Host), mnesia:dirty_delete(mixpam_link, Host) end
     || {_, Host, _, _} <- ets:match_object(mixpam_link, {'_', '_', self(), '_'})].

%% T6, T7: every session writes its own state to the link and then says so, hence
%% nothing newer is overtaken, and `replayed` is last.
replay(Host, Link) ->
    replay(Host, Link, ejabberd_sm:get_vh_session_list(Host)).

replay(Host, Link, Sessions) when length(Sessions) > ?BATCH ->
    {Batch, Rest} = lists:split(?BATCH, Sessions),
    barrier(Batch, {replay, Link}),
    replay(Host, Link, Rest);
replay(Host, Link, Sessions) ->
    barrier(Sessions, {replay, Link}),
    send(Link, event(Host, <<"replayed">>, [])).

%% Ask these sessions' processes, and wait until each has answered or is gone.
barrier(Sessions, Ask) ->
    Until = erlang:monotonic_time(millisecond) + ?ROSTER_TIMEOUT,
    Asked = [begin
                 Ref = erlang:monitor(process, Pid),
                 ejabberd_cluster:send(Pid, {mixpam, Ask, self(), Ref}),
                 Ref
             end || {U, S, R} <- Sessions, Pid <- [ejabberd_sm:get_session_pid(U, S, R)],
                    is_pid(Pid)],
    lists:foreach(fun(Ref) ->
        receive
            {mixpam_done, Ref} -> erlang:demonitor(Ref, [flush]);
            {'DOWN', Ref, _, _, _} -> ok
        after max(0, Until - erlang:monotonic_time(millisecond)) -> ok
        end
    end, Asked).

%%% From the component: runs in the link's process

component_send_packet({Pkt, State} = Acc) when is_tuple(Pkt) ->
    {U, Host, R} = jid:tolower(xmpp:get_to(Pkt)),
    case link_of(Host) of
        {Pid, _} when Pid == self() ->
            case from_component(U, R, Host, Pkt) of
                done -> {stop, {drop, State}};
                route -> {stop, Acc}
            end;
        _ ->
            case ets:match_object(mixpam_link, {'_', '_', self(), '_'}) of
                [] -> Acc;
                _ -> {stop, Acc} % C2
            end
    end;
component_send_packet(Acc) -> Acc.

%% C1 goes to the session's process by a message of our own: router, archive,
%% carbons and offline storage never see it. C4 is T1 again.
from_component(<<>>, <<>>, Host, Pkt) when element(1, Pkt) == message;
                                           element(1, Pkt) == presence ->
    case [{xmpp:get_name(El), xmpp:get_ns(El)} || El <- lists:sublist(xmpp:get_els(Pkt), 1)] of
        [{<<"addresses">>, ?ADDRESS}] -> deliver_to_all(Host, Pkt);
        [{<<"services">>, ?TAP}] -> services(Host, hd(xmpp:get_els(Pkt)));
        _ -> route
    end;
from_component(U, <<>>, Host, Pkt) when U /= <<>>, element(1, Pkt) == iq ->
    case {xmpp:get_type(Pkt), xmpp:get_els(Pkt), jid:tolower(xmpp:get_from(Pkt))} of
        {Type, [El], {<<>>, Component, <<>>}} when Type == get; Type == set ->
            case xmpp:get_ns(El) == ?ROSTER andalso component(Host) == Component of
                true -> roster(Type, U, Host, El, Pkt);
                false -> route
            end;
        _ -> route
    end;
from_component(U, R, Host, Pkt) when U /= <<>>, R /= <<>> ->
    deliver_to(U, Host, R, xmpp:put_meta(Pkt, mixpam, true));
from_component(_, _, _, _) -> route.

%% C6. Each session writes its own address and id into the copy: here, they would wait in
%% line. One of this node is known by its address alone; ejabberd's table takes ten times
%% as long, above all when a copy has just been sent and the process has not run yet.
deliver_to_all(Host, Pkt) ->
    [{xmlel, _, _, Addresses} | Els] = xmpp:get_els(Pkt),
    Copy = xmpp:put_meta(xmpp:set_els(Pkt, Els), mixpam, true),
    lists:foreach(fun({xmlel, <<"address">>, Attrs, _}) -> deliver_to_address(Host, Copy, Attrs);
                     (_) -> ok
                  end, Addresses),
    done.

deliver_to_address(Host, Copy, Attrs) ->
    Address = attr(<<"jid">>, Attrs),
    What = {Copy, attr(<<"id">>, Attrs)},
    case ets:lookup(mixpam_session, {Host, Address}) of
        [{_, _, Pid}] -> Pid ! {mixpam, deliver, What};
        [] ->
            case parsed(Address) of
                {_, {U, Host, R}} when R /= <<>> -> deliver_to(U, Host, R, What);
                _ -> none
            end
    end.

%% In the session's own process.
session_here(State) ->
    {_, Key, _} = Row = session_row(State),
    ets:lookup(mixpam_session, Key) == [Row] orelse mnesia:dirty_write(Row).

session_gone(State) -> mnesia:dirty_delete_object(session_row(State)).

session_row(#{jid := JID}) ->
    {_, Host, _} = Full = jid:tolower(JID),
    {mixpam_session, {Host, jid:encode(Full)}, self()}.

parsed(Text) ->
    try JID = jid:decode(Text), {JID, jid:tolower(JID)} catch _:_ -> error end.

with_id(Pkt, <<>>) -> Pkt;
with_id(Pkt, Id) ->
    By = jid:encode(jid:remove_resource(xmpp:get_to(Pkt))),
    xmpp:set_els(Pkt, xmpp:get_els(Pkt) ++
                 [{xmlel, <<"stanza-id">>,
                   [{<<"xmlns">>, ?SID}, {<<"by">>, By}, {<<"id">>, Id}], []}]).

deliver_to(U, Host, R, Pkt) ->
    case ejabberd_sm:get_session_pid(U, Host, R) of
        none -> ok;
        Pid -> ejabberd_cluster:send(Pid, {mixpam, deliver, Pkt})
    end,
    done.

%% C5
services(Host, {xmlel, _, Attrs, Els}) ->
    New = [D || {xmlel, <<"service">>, A, _} <- Els,
                D <- [jid:nameprep(attr(<<"jid">>, A))], is_binary(D), D /= <<>>],
    lists:foreach(fun(D) -> mnesia:dirty_write({mixpam_service, {Host, D}, true}) end, New),
    case attr(<<"complete">>, Attrs) of
        <<"true">> ->
            Known = mnesia:dirty_match_object({mixpam_service, {Host, '_'}, '_'}),
            [mnesia:dirty_delete(mixpam_service, {Host, D})
             || {_, {_, D}, _} <- Known, not lists:member(D, New)],
            set_gatherer(Host, attr(<<"multicast">>, Attrs)),
            mnesia:dirty_write({mixpam_link, Host, self(), up});
        _ -> ok
    end,
    done.

attr(Name, Attrs) -> proplists:get_value(Name, Attrs, <<>>).

%% C3
roster(Type, U, Host, El, IQ) ->
    Link = self(),
    case ejabberd_auth:user_exists(U, Host) of
        false ->
            Text = <<"No such account">>,
            send(Link, xmpp:make_error(IQ, xmpp:err_item_not_found(Text, xmpp:get_lang(IQ))));
        true when Type == get ->
            Items = ejabberd_hooks:run_fold(roster_get, Host, [], [{U, Host}]),
            Query = {xmlel, <<"query">>, [{<<"xmlns">>, ?ROSTER}],
                     [xmpp:encode(Item) || Item <- Items]},
            send(Link, xmpp:set_els(xmpp:make_iq_result(IQ), [Query]));
        true ->
            Answer = roster_set(U, Host, El, IQ),
            %% Every session has passed its push on before the answer leaves.
            Sessions = [{U, Host, R} || R <- ejabberd_sm:get_user_resources(U, Host)],
            spawn(fun() -> barrier(Sessions, sync), send(Link, Answer) end)
    end,
    done.

roster_set(U, Host, {xmlel, _, _, Els}, IQ) ->
    try [Item] = [xmpp:decode(setelement(3, E, [{<<"xmlns">>, ?ROSTER} | A]), ?ROSTER, [])
                  || {xmlel, <<"item">>, A, _} = E <- Els],
         roster_set(U, Host, Item) of
        ok -> xmpp:make_iq_result(IQ);
        {error, _} -> xmpp:make_error(IQ, xmpp:err_internal_server_error())
    catch _:_ -> xmpp:make_error(IQ, xmpp:err_bad_request())
    end.

%% #roster_item{} is {roster_item, JID, Name, Groups, Subscription, …}, #roster{}
%% {roster, _, US, LJID, Name, Subscription, …, Ask, Groups, _, _} in every version.
%% What is to be gone with the item (`ask`, and for a removal the subscription,
%% or the channel would be sent an `unsubscribed`) is cleared without a push first.
roster_set(U, Host, Item) ->
    Remove = element(5, Item) == remove,
    case roster_item(U, Host, bare(element(2, Item))) of
        none when Remove -> ok;
        none -> set_item(U, Host, Item);
        Old ->
            Sub = case Remove of true -> none; false -> element(6, Old) end,
            New = setelement(6, setelement(ask(Old), Old, none), Sub),
            _ = New == Old orelse mod_roster:set_roster(New),
            set_item(U, Host, setelement(3, setelement(4, Item, element(ask(Old) + 1, Old)),
                                         element(5, Old)))
    end.

set_item(U, Host, Item) ->
    mod_roster:set_item_and_notify_clients(jid:make(U, Host), Item, true).

ask(Record) -> tuple_size(Record) - 3.

bare(JID) -> jid:remove_resource(jid:tolower(JID)).

%% An item with `ask` in and subscription none is a request, and not in the roster.
roster_item(U, Host, LPeer) ->
    case [R || R <- mod_roster:get_roster(U, Host), element(4, R) == LPeer,
               not (element(6, R) == none andalso element(ask(R), R) == in)] of
        [Record | _] -> Record;
        [] -> none
    end.

%% ejabberd caches the answer to the first question, which settles most cases.
in_roster({U, Host, _}, LPeer) ->
    case ejabberd_hooks:run_fold(roster_get_jid_info, Host, {none, none, []},
                                 [U, Host, jid:make(LPeer)]) of
        {none, _, _} -> roster_item(U, Host, LPeer) /= none;
        _ -> true
    end.

%%% From channels: T1, T2, T3, T9

sm_receive_packet(Pkt) when is_tuple(Pkt) ->
    {U, Host, R} = jid:tolower(xmpp:get_to(Pkt)),
    {_, Domain, _} = jid:tolower(xmpp:get_from(Pkt)),
    case is_mix(Host, Domain) orelse is_for_us(Pkt) of
        false -> Pkt;
        true when R /= <<>> -> copy_preference(Host, Pkt);
        true ->
            %% Answers are the component's even when the account has gone meanwhile.
            case is_channel_stanza(Pkt)
                andalso (element(1, Pkt) == iq orelse ejabberd_auth:user_exists(U, Host)) of
                true -> wait_for_room(Host, Pkt, 50), divert(Host, Pkt), {stop, drop};
                false -> Pkt
            end
    end;
sm_receive_packet(Acc) -> Acc.

%% The answer of a domain that is on no list yet to what the component asked it.
is_for_us(Pkt) when element(1, Pkt) == iq ->
    case xmpp:get_id(Pkt) of
        <<"mixpam:", _/binary>> -> {_, _, R} = jid:tolower(xmpp:get_to(Pkt)), R == <<>>;
        _ -> false
    end;
is_for_us(_) -> false.

%% This runs in the process that the stanza came by. One that brings presence and
%% events faster than the link takes them waits, so that others' messages need not
%% stand behind them. The link never runs dry; nobody waits longer than N ms or so.
wait_for_room(Host, Pkt, N) when N > 0 ->
    case xmpp:get_type(Pkt) /= groupchat andalso is_link_crowded(Host) of
        true -> timer:sleep(1), wait_for_room(Host, Pkt, N - 1);
        false -> ok
    end;
wait_for_room(_Host, _Pkt, 0) -> ok.

is_link_crowded(Host) ->
    Pid = case {gatherer_of(Host), link_of(Host)} of
              {none, {Link, _}} -> Link;
              {none, none} -> none;
              {{Gatherer, _}, _} -> Gatherer
          end,
    case is_pid(Pid) andalso node(Pid) == node() andalso process_info(Pid, message_queue_len) of
        {_, Length} -> Length > ?CROWD;
        _ -> false % there is none, or it has just ended
    end.

is_channel_stanza(Pkt) ->
    case {element(1, Pkt), xmpp:get_type(Pkt)} of
        {message, error} -> false;
        {message, groupchat} -> true;
        {message, _} -> lists:any(fun is_mix_child/1, xmpp:get_els(Pkt));
        {presence, Type} -> lists:member(Type, [available, unavailable, error, probe]);
        {iq, Type} -> Type == result orelse Type == error
    end.

is_mix_child(El) ->
    case xmpp:get_ns(El) of
        <<"urn:xmpp:mix:misc:", _/binary>> -> false; % XEP-0407: from user to user
        <<"urn:xmpp:mix:", _/binary>> -> true;
        <<"http://jabber.org/protocol/pubsub#event">> ->
            {xmlel, _, _, Els} = xmpp:encode(El),
            [] /= [Node || {xmlel, <<"items">>, Attrs, _} <- Els,
                           <<"urn:xmpp:mix:nodes:", Node/binary>> <- [attr(<<"node">>, Attrs)]];
        _ -> false
    end.

%% Blocked (XEP-0191): dropped, for a bounce would reach the channel.
divert(Host, Pkt) ->
    case lists:any(fun(From) -> is_blocked(Host, xmpp:set_from(Pkt, From)) end, addresses(Pkt)) of
        true -> ok;
        false when element(1, Pkt) == message ->
            Own = without_id(Pkt),
            to_gatherer(Host, Own, archive(Host, Own));
        false -> to_gatherer(Host, Pkt, <<>>)
    end.

is_blocked(Host, Pkt) ->
    deny == ejabberd_hooks:run_fold(privacy_check_packet, Host, allow,
                                    [xmpp:get_to(Pkt), Pkt, in]).

%% A participant's address is id#channel@...: who has blocked the channel has
%% blocked that, too.
addresses(Pkt) ->
    From = xmpp:get_from(Pkt),
    {U, Domain, _} = jid:tolower(From),
    case binary:split(U, <<"#">>) of
        [_, Channel] when Channel /= <<>> -> [From, jid:make(Channel, Domain)];
        _ -> [From]
    end.

%% mod_mam takes no groupchat, but honours preferences and hints for a chat message;
%% store_mam_message below turns it back before it is written. The archive's id, or <<>>.
archive(Host, Pkt) ->
    case xmpp:get_type(Pkt) == groupchat andalso gen_mod:is_loaded(Host, mod_mam) of
        true ->
            Chat = xmpp:put_meta(xmpp:set_type(Pkt, chat), mixpam_groupchat, true),
            case mod_mam:offline_message({bounce, Chat}) of
                {archived, Stored} -> integer_to_binary(xmpp:get_meta(Stored, stanza_id));
                _ -> <<>>
            end;
        false -> <<>>
    end.

without_id(Pkt) ->
    By = bare(xmpp:get_to(Pkt)),
    xmpp:set_els(Pkt, [El || El <- xmpp:get_els(Pkt), not is_id(El, By)]).

is_id({xmlel, <<"stanza-id">>, _, _} = El, By) -> whose(El) == By;
is_id(El, By) when element(1, El) == stanza_id -> whose(El) == By;
is_id(_, _) -> false.

%% The same element comes for each participant, one after the other.
whose(El) ->
    case get({?MODULE, whose}) of
        {El, Known} -> Known;
        _ ->
            {xmlel, _, Attrs, _} = xmpp:encode(El),
            By = case parsed(attr(<<"by">>, Attrs)) of {JID, _} -> bare(JID); error -> none end,
            put({?MODULE, whose}, {El, By}),
            By
    end.

store_mam_message(Pkt, User, Host, Peer, _Nick, _Type, _Dir) ->
    to_be_stored(Pkt, User, Host, Peer).
store_mam_message(Pkt, User, Host, Peer, _Nick, _Type, _Dir, _InMuc) ->
    to_be_stored(Pkt, User, Host, Peer).

%% Of channels that are in the user's roster only; asked here, where preferences have spoken.
to_be_stored(Pkt, User, Host, Peer) when is_tuple(Pkt) ->
    case xmpp:get_meta(Pkt, mixpam_groupchat, false) of
        true ->
            case in_roster({User, Host, <<>>}, bare(Peer)) of
                true -> xmpp:set_type(Pkt, groupchat);
                false -> {stop, drop}
            end;
        false -> Pkt
    end;
to_be_stored(Acc, _User, _Host, _Peer) -> Acc.

%%% The gatherer: T10

%% A process beside the link, through which T1, T2 and T3 go if the component takes T10.
%% Its row is {mixpam_link, {gatherer, Host}, Pid, {Address, Table}}; the table is its own,
%% and ends with it.
gatherer_of(Host) ->
    case ets:lookup(mixpam_link, {gatherer, Host}) of
        [{_, _, Pid, {_, Table}}] -> {Pid, Table};
        [] -> none
    end.

to_gatherer(Host, Pkt, Id) ->
    case gatherer_of(Host) of
        none -> to_link(Host, with_id(Pkt, Id));
        {Pid, Table} when node(Pid) == node() -> add(Pid, Table, self(), Pkt, Id);
        {Pid, _} -> ejabberd_cluster:send(Pid, {gather, self(), Pkt, Id})
    end.

%% Runs in the process that brings the stanzas, which may be one for many channels. Only
%% what opens a batch is sent to the gatherer; the others' addresses and ids are rows of its
%% table: to wake the gatherer for each is what would cost most.
add(Gatherer, Table, From, Pkt, Id) when element(1, Pkt) == message ->
    {U, Host, _} = jid:tolower(To = xmpp:get_to(Pkt)),
    Common = xmpp:set_meta(xmpp:set_to(Pkt, undefined), #{}),
    Size = byte_size(U) + byte_size(Host) + byte_size(Id) + 40,
    try
        case get({?MODULE, From}) of
            {Batch, Common, N, Bytes} when N < ?ADDRESSES, Bytes + Size < ?ADDRESSES_BYTES ->
                put({?MODULE, From}, {Batch, Common, N + 1, Bytes + Size}),
                ets:insert(Table, {Batch, To, Id}),
                %% What came too late for a batch that was closed meanwhile opens the next.
                case ets:member(Table, {open, Batch}) orelse close(Table, Batch) of
                    [_ | _] = Late -> open(Gatherer, Table, From, Common, Bytes + Size, Late);
                    _ -> ok
                end;
            _ -> open(Gatherer, Table, From, Common, Size, [{To, Id}])
        end
    catch error:badarg -> none % The gatherer has just ended, and its table with it.
    end;
add(Gatherer, _Table, From, Pkt, _Id) ->
    erase({?MODULE, From}),
    Gatherer ! {pass, From, Pkt}.

open(Gatherer, Table, From, Common, Bytes, Tos) ->
    Batch = make_ref(),
    ets:insert(Table, [{{open, Batch}} | [{Batch, To, Id} || {To, Id} <- Tos]]),
    put({?MODULE, From}, {Batch, Common, length(Tos), Bytes}),
    Gatherer ! {open, From, Batch, Common}.

%% Each row is taken once, by the gatherer or by the process that brought it.
close(Table, Batch) ->
    ets:delete(Table, {open, Batch}),
    [{To, Id} || {_, To, Id} <- ets:take(Table, Batch)].

%% Runs in the link's process.
set_gatherer(Host, Address) ->
    Component = component(Host),
    case {ets:lookup(mixpam_link, {gatherer, Host}), parsed(Address)} of
        {[{_, _, _, {Address, _}}], _} -> ok;
        {_, {JID, {<<>>, Component, R}}} when R /= <<>> ->
            forget_gatherer(Host),
            Table = ets:new(?MODULE, [duplicate_bag, public, {write_concurrency, true}]),
            Pid = spawn(?MODULE, gatherer, [self(), JID]),
            ets:give_away(Table, Pid, JID),
            mnesia:dirty_write({mixpam_link, {gatherer, Host}, Pid, {Address, Table}});
        _ -> forget_gatherer(Host)
    end.

forget_gatherer(Host) ->
    Gatherer = gatherer_of(Host),
    mnesia:dirty_delete(mixpam_link, {gatherer, Host}),
    Gatherer /= none andalso ejabberd_cluster:send(element(1, Gatherer), stop).

gatherer(Link, Address) ->
    erlang:monitor(process, Link),
    receive {'ETS-TRANSFER', Table, Link, Address} -> gather({Link, Address, Table}, #{}, 0) end.

%% A batch goes when the process it comes by is at rest, or at `Until`; that is looked at
%% when the batch is opened, so that one alone need not wait, and every millisecond. There
%% is one for each such process, because what comes by another is of another channel.
gather({Link, _, Table} = Where, Open, Until) ->
    receive
        {open, From, Batch, Common} ->
            flush(Where, maps:with([From], Open)),
            Open1 = Open#{From => {Batch, Common}},
            case map_size(Open) of
                0 ->
                    self() ! look,
                    gather(Where, Open1, erlang:monotonic_time(millisecond) + ?PATIENCE);
                _ -> gather(Where, Open1, Until)
            end;
        {pass, From, Pkt} ->
            flush(Where, maps:with([From], Open)),
            send_when_free(Where, Pkt),
            gather(Where, maps:remove(From, Open), Until);
        {gather, From, Pkt, Id} -> % from another node
            add(self(), Table, From, Pkt, Id),
            gather(Where, Open, Until);
        look ->
            Late = erlang:monotonic_time(millisecond) >= Until,
            case Late orelse lists:all(fun is_at_rest/1, maps:keys(Open)) of
                true ->
                    flush(Where, Open),
                    gather(Where, #{}, 0);
                false ->
                    erlang:send_after(1, self(), look),
                    gather(Where, Open, Until)
            end;
        stop -> flush(Where, Open);
        {'DOWN', _, process, Link, _} -> ok
    end.

%% Back in the loop of its behaviour, with nothing to do: elsewhere it may wait for the
%% archive. The answer of a process that runs takes until it pauses.
is_at_rest(Pid) when node(Pid) == node() ->
    case process_info(Pid, [message_queue_len, current_function]) of
        [{_, 0}, {_, {Module, _, _}}] -> Module == gen_server orelse Module == p1_server;
        Other -> Other == undefined
    end;
is_at_rest(_) -> false.

flush({_, _, Table} = Where, Open) ->
    maps:foreach(fun(From, {Batch, Common}) ->
                     erase({?MODULE, From}),
                     push(Where, Common, close(Table, Batch))
                 end, Open).

push(_Where, _Common, []) -> ok;
push(Where, Common, [{To, Id}]) -> send_when_free(Where, with_id(xmpp:set_to(Common, To), Id));
push({_, Address, _} = Where, Common, Tos) ->
    List = [{xmlel, <<"address">>,
             [{<<"type">>, <<"to">>}, {<<"jid">>, jid:encode(To)}
              | [{<<"id">>, Id} || Id /= <<>>]], []} || {To, Id} <- Tos],
    Addresses = {xmlel, <<"addresses">>, [{<<"xmlns">>, ?ADDRESS}], List},
    send_when_free(Where, xmpp:set_els(xmpp:set_to(Common, Address),
                                       [Addresses | xmpp:get_els(Common)])).

%% What the link does not take in time waits here as it came, many to one stanza, and no
%% longer than ejabberd would let it wait before the link.
send_when_free({Link, _, Table} = Where, Pkt) ->
    case process_info(Link, message_queue_len) of
        {_, Length} when Length > ?CROWD ->
            {_, Waiting} = process_info(self(), message_queue_len),
            case Waiting + ets:info(Table, size) of
                Crowd when Crowd > ?FLOOD ->
                    logger:warning("mod_mixpam_tap: the component is too slow, its link is closed"),
                    ejabberd_service:close(Link),
                    receive {'DOWN', _, process, Link, _} -> exit(normal) end;
                _ ->
                    timer:sleep(1),
                    send_when_free(Where, Pkt)
            end;
        _ -> send(Link, Pkt)
    end.

%% T9
copy_preference(Host, Pkt) when element(1, Pkt) == iq ->
    Els = [xmpp:encode(El) || El <- xmpp:get_els(Pkt)],
    case lists:any(fun is_preference/1, Els ++ lists:append([Cs || {xmlel, _, _, Cs} <- Els])) of
        true -> to_link(Host, Pkt);
        false -> none
    end,
    Pkt;
copy_preference(_Host, Pkt) -> Pkt.

is_preference({xmlel, <<"user-preference">>, Attrs, _}) ->
    attr(<<"xmlns">>, Attrs) == <<"urn:xmpp:mix:anon:0">>;
is_preference(_) -> false.

%%% From clients: T4's flag, T5, T9, and presence that is the component's alone

user_send_packet({Pkt, #{lserver := Host} = State} = Acc) when element(1, Pkt) == iq ->
    {U, Domain, R} = jid:tolower(xmpp:get_to(Pkt)),
    Own = {U, Domain, R} == bare(xmpp:get_from(Pkt)),
    case {xmpp:get_type(Pkt), xmpp:get_els(Pkt)} of
        {Type, [El]} when Own, Type == get orelse Type == set ->
            from_own_session(Type, xmpp:get_ns(El), El, Pkt, State);
        _ ->
            _ = is_mix(Host, Domain) andalso copy_preference(Host, Pkt),
            Acc
    end;
user_send_packet({Pkt, State} = Acc) when element(1, Pkt) == presence ->
    case is_suppressed(Pkt) of
        true -> {stop, {drop, State}};
        false -> Acc
    end;
user_send_packet(Acc) -> Acc.

%% An own `ver` could make the answer empty and hide the annotations; an empty
%% one never matches, and keeps versions in the answer.
from_own_session(get, ?ROSTER, {xmlel, Name, Attrs, Els}, Pkt, State) ->
    case [El || El <- Els, not is_annotate(El)] of
        Els -> {Pkt, maps:remove(mixpam_annotate, State)};
        Rest ->
            Attrs1 = [case A of {<<"ver">>, _} -> {<<"ver">>, <<>>}; _ -> A end || A <- Attrs],
            {xmpp:set_els(Pkt, [{xmlel, Name, Attrs1, Rest}]), State#{mixpam_annotate => true}}
    end;
from_own_session(_, NS, _, Pkt, #{lserver := Host} = State) ->
    case lists:member(NS, ?PAM) andalso link_of(Host) of
        false -> {Pkt, State};
        {Link, up} ->
            send(Link, Pkt),
            Open = [{xmpp:get_id(Pkt), Link, Pkt} | maps:get(mixpam_open, State, [])],
            {stop, {drop, watch(Link, State#{mixpam_open => Open})}};
        _ ->
            unavailable(Pkt),
            {stop, {drop, State}}
    end.

is_annotate({xmlel, <<"annotate">>, Attrs, _}) ->
    attr(<<"xmlns">>, Attrs) == <<"urn:xmpp:mix:roster:0">>;
is_annotate(_) -> false.

unavailable(IQ) ->
    Text = <<"MIX is not available just now">>,
    ejabberd_router:route_error(IQ, xmpp:err_service_unavailable(Text, xmpp:get_lang(IQ))).

%% T5 of others. decode_iq_subel keeps ejabberd from judging what is inside.
process_iq(IQ) ->
    Text = <<"Only the account's own sessions may ask this">>,
    xmpp:make_error(IQ, xmpp:err_forbidden(Text, xmpp:get_lang(IQ))).

decode_iq_subel(El) -> El.

is_suppressed(Pkt) ->
    {_, Domain, R} = To = jid:tolower(xmpp:get_to(Pkt)),
    {_, Host, _} = From = jid:tolower(xmpp:get_from(Pkt)),
    R == <<>> andalso is_mix(Host, Domain)
        andalso lists:member(xmpp:get_type(Pkt), [available, unavailable, probe])
        andalso in_roster(From, To).

%% Asked for every single recipient of a broadcast. The global hook has a JID
%% where the others have the session: mod_roster, about an item just lost.
privacy_check_packet(Acc, #{}, Pkt, out) when element(1, Pkt) == presence ->
    case is_suppressed(Pkt) of
        true -> {stop, deny};
        false -> Acc
    end;
privacy_check_packet(Acc, From, Pkt, out) when element(1, Pkt) == presence, not is_map(From) ->
    {_, Host, _} = jid:tolower(From),
    {_, Domain, R} = jid:tolower(xmpp:get_to(Pkt)),
    case R == <<>> andalso is_mix(Host, Domain) andalso gen_mod:is_loaded(Host, ?MODULE) of
        true -> {stop, deny};
        false -> Acc
    end;
privacy_check_packet(Acc, _, _, _) -> Acc.

%%% To clients: T4 and C1, in the session's process

%% The session keeps what is away: {{Type, Id}, Link, Original, Timer}.
user_receive_packet({Pkt, #{mixpam_annotate := true, lserver := Host} = State} = Acc)
  when element(1, Pkt) == iq ->
    case {link_of(Host), own_roster(Pkt, State)} of
        {{Link, _}, {xmlel, Name, Attrs, Els}} ->
            send(Link, xmpp:set_els(Pkt, [{xmlel, Name, Attrs, [?ANNOTATE | Els]}])),
            {stop, {drop, watch(Link, away({key(Pkt), Link, Pkt}, State))}};
        _ -> Acc
    end;
user_receive_packet(Acc) -> Acc.

key(IQ) -> {xmpp:get_type(IQ), xmpp:get_id(IQ)}.

away({Key, Link, Pkt}, State) ->
    Timer = erlang:start_timer(?ROSTER_TIMEOUT, self(), mixpam),
    State#{mixpam_away => maps:get(mixpam_away, State, []) ++ [{Key, Link, Pkt, Timer}]}.

own_roster(IQ, #{jid := JID}) ->
    case {xmpp:get_type(IQ), xmpp:get_els(IQ), jid:tolower(xmpp:get_from(IQ)) == bare(JID)} of
        {Type, [El], true} when Type == result; Type == set ->
            case xmpp:get_ns(El) of
                ?ROSTER -> xmpp:encode(El);
                _ -> none
            end;
        _ -> none
    end.

%% A session that waits for the component learns of the link's death by itself.
watch(Link, State) ->
    Watched = maps:get(mixpam_watched, State, []),
    case lists:member(Link, Watched) of
        true -> State;
        false ->
            erlang:monitor(process, Link),
            State#{mixpam_watched => [Link | Watched]}
    end.

%% A process whose session was just resumed by another one keeps what comes late
%% for its successor, and nothing else is its business any more.
c2s_handle_info(#{mgmt_state := resumed} = State, {mixpam, deliver, Pkt}) ->
    {stop, State#{mixpam_late => [Pkt | maps:get(mixpam_late, State, [])]}};
c2s_handle_info(#{mgmt_state := resumed} = State, {timeout, _, mixpam}) -> {stop, State};
c2s_handle_info(State, {mixpam, deliver, Pkt}) -> {stop, deliver(Pkt, State)};
c2s_handle_info(State, {mixpam, Ask, Worker, Ref}) ->
    _ = case Ask of {replay, Link} -> replay_session(Link, State); sync -> ok end,
    Worker ! {mixpam_done, Ref},
    {stop, State};
c2s_handle_info(#{mixpam_away := Away} = State, {timeout, Timer, mixpam}) ->
    {Late, Rest} = lists:partition(fun({_, _, _, T}) -> T == Timer end, Away),
    {stop, give_up(Late, State#{mixpam_away => Rest})};
c2s_handle_info(State, {timeout, _, mixpam}) -> {stop, State};
c2s_handle_info(#{mixpam_watched := Watched} = State, {'DOWN', _, process, Link, _} = Down) ->
    case lists:member(Link, Watched) of
        true -> {stop, link_lost(Link, State#{mixpam_watched => lists:delete(Link, Watched)})};
        false -> c2s_other_info(State, Down)
    end;
c2s_handle_info(State, Info) -> c2s_other_info(State, Info).

%% mod_roster wants the presence sent to someone who may see it now.
c2s_other_info(#{jid := JID} = State, {resend_presence, To}) when To /= undefined ->
    {_, Host, _} = jid:tolower(JID),
    {_, Domain, R} = jid:tolower(To),
    case R == <<>> andalso is_mix(Host, Domain) of
        true -> {stop, State};
        false -> State
    end;
c2s_other_info(State, _) -> State.

%% C1; the way back of T4 and T5. A roster stanza that nobody waits for is late.
deliver({Copy, Id}, #{jid := JID} = State) ->
    deliver(with_id(xmpp:set_to(Copy, JID), Id), State);
deliver(Pkt, #{lserver := Host} = State) ->
    case settle(Pkt, State) of
        late -> State;
        State1 ->
            case ejabberd_hooks:run_fold(privacy_check_packet, Host, allow, [State1, Pkt, in]) of
                allow -> ejabberd_c2s:send(State1, Pkt);
                deny -> State1
            end
    end.

settle(Pkt, #{jid := JID} = State) when element(1, Pkt) == iq ->
    Away = maps:get(mixpam_away, State, []),
    case {own_roster(Pkt, State), lists:keytake(key(Pkt), 1, Away)} of
        {none, _} ->
            Open = maps:get(mixpam_open, State, []),
            Answer = lists:member(xmpp:get_type(Pkt), [result, error])
                andalso jid:tolower(xmpp:get_from(Pkt)) == bare(JID),
            case Answer andalso lists:keytake(xmpp:get_id(Pkt), 1, Open) of
                {value, _, Rest} -> State#{mixpam_open => Rest};
                false -> State
            end;
        {_, {value, {_, _, _, Timer}, Rest}} ->
            _ = erlang:cancel_timer(Timer),
            State#{mixpam_away => Rest};
        {_, false} -> late
    end;
settle(_, State) -> State.

give_up(Items, State) ->
    lists:foldl(fun({_, _, Pkt, _}, Acc) -> ejabberd_c2s:send(Acc, Pkt) end, State, Items).

link_lost(Link, State) ->
    {Lost, Away} = lists:partition(fun(I) -> element(2, I) == Link end,
                                   maps:get(mixpam_away, State, [])),
    {Asked, Open} = lists:partition(fun(I) -> element(2, I) == Link end,
                                    maps:get(mixpam_open, State, [])),
    [erlang:cancel_timer(Timer) || {_, _, _, Timer} <- Lost],
    [unavailable(IQ) || {_, _, IQ} <- lists:reverse(Asked)],
    give_up(Lost, State#{mixpam_away => Away, mixpam_open => Open}).

%% Runs in the successor's process, so that timers and monitors are its own.
c2s_copy_session(New, Old) ->
    State = maps:merge(New, maps:with([mixpam_annotate, mixpam_open], Old)),
    Away = maps:get(mixpam_away, Old, []),
    State1 = lists:foldl(fun({Key, Link, Pkt, _}, Acc) -> away({Key, Link, Pkt}, Acc) end,
                         State, Away),
    lists:foldl(fun watch/2, State1, maps:get(mixpam_watched, Old, [])).

%%% Sessions: T6, T7

c2s_self_presence({Pkt, #{lserver := Host} = State} = Acc) when is_tuple(Pkt) ->
    _ = session_here(State),
    to_link(Host, xmpp:set_to(Pkt, jid:make(component(Host)))),
    Acc;
c2s_self_presence(Acc) -> Acc.

replay_session(Link, #{lserver := Host} = State) ->
    case State of
        #{pres_last := Pkt} ->
            _ = session_here(State),
            send(Link, xmpp:set_to(Pkt, jid:make(component(Host))));
        _ -> none
    end,
    case State of
        #{mgmt_state := pending} -> send(Link, session_event(<<"hibernated">>, State));
        _ -> none
    end.

c2s_session_pending(State) -> session_changed(<<"hibernated">>, State).
c2s_session_resumed(State) ->
    _ = session_here(State),
    session_changed(<<"resumed">>, State).

session_changed(Name, #{lserver := Host} = State) ->
    to_link(Host, session_event(Name, State)),
    State.

session_event(Name, #{lserver := Host, jid := JID}) ->
    event(Host, Name, [{<<"jid">>, jid:encode(JID)}]).

c2s_terminated(#{mgmt_state := resumed, jid := JID} = State, _Reason) ->
    session_gone(State),
    {U, Host, R} = jid:tolower(JID),
    Late = lists:reverse(maps:get(mixpam_late, State, [])) ++ late(),
    [deliver_to(U, Host, R, Pkt) || Pkt <- Late],
    State;
c2s_terminated(#{jid := JID, lserver := Host} = State, _Reason) ->
    session_gone(State),
    case is_map_key(pres_last, State) andalso not is_replaced(JID) of
        true ->
            to_link(Host, stanza(<<"presence">>,
                [{<<"from">>, jid:encode(JID)}, {<<"to">>, component(Host)},
                 {<<"type">>, <<"unavailable">>}], {xmlcdata, <<>>}));
        false -> none
    end,
    without_copies(State);
c2s_terminated(State, _Reason) -> State.

late() ->
    receive {mixpam, deliver, Pkt} -> [Pkt | late()] after 0 -> [] end.

%% A new session of the same full JID that is available already speaks for it.
is_replaced(JID) ->
    {U, Host, R} = jid:tolower(JID),
    case ejabberd_sm:get_user_info(U, Host, R) of
        offline -> false;
        Info -> proplists:get_value(pid, Info) /= self()
                    andalso is_integer(proplists:get_value(priority, Info))
    end.

%% C1: mod_stream_mgmt would bounce what is left, or store it offline.
without_copies(#{mgmt_queue := Queue} = State) ->
    Keep = p1_queue:foldl(fun({_, _, Pkt} = Item, Acc) ->
                              case is_copy(Pkt) of
                                  true -> Acc;
                                  false -> p1_queue:in(Item, Acc)
                              end
                          end, p1_queue:new(), Queue),
    State#{mgmt_queue => Keep};
without_copies(State) -> State.

is_copy(Pkt) -> xmpp:is_stanza(Pkt) andalso element(1, Pkt) /= xmlel
                    andalso xmpp:get_meta(Pkt, mixpam, false).

disco_sm_features({error, _} = Acc, _From, _To, _Node, _Lang) -> Acc;
disco_sm_features(Acc, From, To, <<>>, _Lang) ->
    {_, Host, _} = jid:tolower(To),
    case bare(From) == bare(To) andalso link_of(Host) of
        {_, up} ->
            {result, Features} = case Acc of empty -> {result, []}; _ -> Acc end,
            Archive = [<<"urn:xmpp:mix:pam:2#archive">> || archives(Host)],
            {result, Features ++ [<<"urn:xmpp:mix:pam:0">>, <<"urn:xmpp:mix:pam:2">>] ++ Archive};
        _ -> Acc
    end;
disco_sm_features(Acc, _From, _To, _Node, _Lang) -> Acc.

%%% Rosters and accounts: T8, T7

%% Runs within the roster's transaction, the only place every change of an item
%% passes; of one that fails the component hears too much, not too little.
roster_process_item(Record, Host) ->
    {_, Domain, _} = element(4, Record),
    _ = is_mix(Host, Domain) andalso to_link(Host, item_changed(Record)),
    Record.

%% A subscription stanza changes the item by another way.
roster_in_subscription(Changed, Pkt) ->
    _ = Changed == true andalso subscription(xmpp:get_to(Pkt), xmpp:get_from(Pkt)),
    Changed.

roster_out_subscription(Pkt) -> subscription(xmpp:get_from(Pkt), xmpp:get_to(Pkt)).

subscription(User, Peer) ->
    {U, Host, _} = jid:tolower(User),
    {_, Domain, _} = LPeer = bare(Peer),
    case is_mix(Host, Domain) andalso roster_item(U, Host, LPeer) of
        Record when element(1, Record) == roster -> to_link(Host, item_changed(Record));
        _ -> none
    end.

item_changed(Record) ->
    {U, Host} = element(3, Record),
    Name = [{<<"name">>, element(5, Record)} || element(5, Record) /= <<>>],
    Ask = [{<<"ask">>, <<"subscribe">>} || lists:member(element(ask(Record), Record),
                                                       [subscribe, out, both])],
    Item = {xmlel, <<"item">>,
            [{<<"jid">>, jid:encode(jid:make(element(4, Record)))},
             {<<"subscription">>, atom_to_binary(element(6, Record), utf8)}] ++ Name ++ Ask,
            [{xmlel, <<"group">>, [], [{xmlcdata, G}]} || G <- element(ask(Record) + 1, Record)]},
    stanza(<<"iq">>, [{<<"from">>, jid:encode(jid:make(U, Host))}, {<<"to">>, component(Host)},
                      {<<"type">>, <<"set">>}, {<<"id">>, p1_rand:get_string()}],
           {xmlel, <<"query">>, [{<<"xmlns">>, ?ROSTER}], [Item]}).

remove_user(User, Server) ->
    JID = jid:make(User, Server),
    {_, Host, _} = jid:tolower(JID),
    to_link(Host, event(Host, <<"user-removed">>, [{<<"jid">>, jid:encode(JID)}])).

%% Only the domain's own connections: those of a local service are hooked here too.
s2s_out_auth_result(#{server := Host, remote_server := Remote} = State, true) ->
    s2s(<<"up">>, Host, Remote, State);
s2s_out_auth_result(State, _) -> State.

s2s_in_auth_result(#{lserver := Host} = State, true, Remote) ->
    s2s(<<"up">>, Host, Remote, State);
s2s_in_auth_result(State, _, _) -> State.

%% Also after an attempt that failed: the domain cannot be reached.
s2s_out_closed(#{server := Host, remote_server := Remote} = State, _Reason) ->
    s2s(<<"down">>, Host, Remote, State).

s2s(Word, Host, Remote, #{server_host := Host} = State) ->
    to_link(Host, event(Host, <<"s2s">>, [{<<"domain">>, Remote}, {<<"state">>, Word}])),
    State;
s2s(_, _, _, State) -> State.
