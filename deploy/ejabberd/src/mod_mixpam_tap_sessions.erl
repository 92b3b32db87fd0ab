%%% Users' sessions: stanzas from and to them, and their hooks. Nearly all of this, and of the three
%%% modules named below, runs in the session's own process, and keeps its data in that process's
%%% state:
%%%
%%%   mixpam_annotate   true if the session is flagged
%%%   mixpam_rosters    what is on its way to a flagged session, oldest first:
%%%                     {Type, Link, Ids of the parts that are out, Marks, Stanza, Timer}
%%%   mixpam_asked      open requests, newest first: {Id, Link, Timer}
%%%   mixpam_expired    hashes of the ids of those that had no answer in time
%%%   mixpam_watched    the links that it monitors for those two
%%%   mixpam_owed       true if the component was not told of the last presence, because too
%%%                     much waited for it
%%%   mixpam_late       what came after another process had resumed the session
%%%
%%% Rosters are in mod_mixpam_tap_annotations, requests in mod_mixpam_tap_requests, presence in
%%% mod_mixpam_tap_online. All hooks stay here: running code finds them by this name during an
%%% upgrade.
-module(mod_mixpam_tap_sessions).

-export([deliver_to_all/2, deliver_to/4, watch/2, process_iq/1, decode_iq_subel/1]).
-export([user_send_packet/1, user_receive_packet/1, c2s_handle_info/2, c2s_copy_session/2,
         c2s_self_presence/1, c2s_terminated/2, c2s_session_pending/1, c2s_session_resumed/1,
         disco_sm_features/5]).

-import(mod_mixpam_tap_link, [archives/1, attr/2, bare/1, is_mix/2, link_of/1, lower/1, parsed/1]).

-define(ROSTER, <<"jabber:iq:roster">>).
-define(MIX_ROSTER, <<"urn:xmpp:mix:roster:0">>).
-define(PAM, [<<"urn:xmpp:mix:pam:0">>, <<"urn:xmpp:mix:pam:1">>, <<"urn:xmpp:mix:pam:2">>]).
-define(LATE, 1000). % stanzas

-type stanza() :: mod_mixpam_tap_link:stanza().
-type xml() :: mod_mixpam_tap_link:xml().
-type attr() :: mod_mixpam_tap_link:attr().

%% A session's state, as in ejabberd_c2s; a copy is a stanza, or a shared one with the archive's id.
-type state() :: map().
-type copy() :: stanza() | {stanza(), Id :: binary()}.
-export_type([state/0]).

%%% To sessions: C1, C6

%% C6. Each session writes its own address and id into the copy: here, that would be done one by
%% one. An online session is found by its address alone; ejabberd's table takes ten times as long,
%% above all when a copy has just been sent and the process has not run yet.
-spec deliver_to_all(binary(), stanza()) -> done.
deliver_to_all(Host, Pkt) ->
    [{xmlel, _, _, Addresses} | Els] = xmpp:get_els(Pkt),
    Copy = xmpp:put_meta(xmpp:set_els(Pkt, Els), mixpam, true),
    lists:foreach(fun({xmlel, <<"address">>, Attrs, _}) -> deliver_to_address(Host, Copy, Attrs);
                     (_) -> ok
                  end, Addresses),
    done.

-spec deliver_to_address(binary(), stanza(), [attr()]) -> any().
deliver_to_address(Host, Copy, Attrs) ->
    Address = attr(<<"jid">>, Attrs),
    What = {Copy, attr(<<"id">>, Attrs)},
    case ets:lookup(mixpam_online, {Host, Address}) of
        [{_, _, Pid}] when node(Pid) == node() -> Pid ! {mixpam, deliver, What};
        [{_, _, Pid}] -> ejabberd_cluster:send(Pid, {mixpam, deliver, What});
        [] ->
            case parsed(Address) of
                {_, {U, Host, R}} when R /= <<>> -> deliver_to(U, Host, R, What);
                _ -> none
            end
    end.

-spec deliver_to(binary(), binary(), binary(), copy()) -> done.
deliver_to(U, Host, R, Pkt) ->
    case ejabberd_sm:get_session_pid(U, Host, R) of
        none -> ok;
        Pid -> ejabberd_cluster:send(Pid, {mixpam, deliver, Pkt})
    end,
    done.

%% T4 and T5 also come back by C1. A stanza that nothing waits for is late.
-spec deliver(copy(), state()) -> state().
deliver({Copy, Id}, #{jid := JID} = State) ->
    deliver(mod_mixpam_tap_batches:with_id(xmpp:set_to(Copy, JID), Id), State);
deliver(Pkt, #{lserver := Host} = State) ->
    case settle(Pkt, State) of
        {taken, State1} -> State1;
        State1 ->
            case ejabberd_hooks:run_fold(privacy_check_packet, Host, allow, [State1, Pkt, in]) of
                allow -> ejabberd_c2s:send(State1, Pkt);
                deny -> State1
            end
    end.

-spec settle(stanza(), state()) -> state() | {taken, state()}.
settle(Pkt, State) when element(1, Pkt) == iq ->
    Id = xmpp:get_id(Pkt),
    case mod_mixpam_tap_annotations:answered(Id, Pkt, State) of
        none -> mod_mixpam_tap_requests:answered(Id, Pkt, State);
        Taken -> Taken
    end;
settle(_, State) -> State.

-spec user_receive_packet(Acc) -> Acc | {stanza(), state()} | {stop, {drop, state()}}
          when Acc :: {stanza() | drop, state()}.
user_receive_packet({Pkt, #{mixpam_annotate := true} = State}) when element(1, Pkt) == iq ->
    mod_mixpam_tap_annotations:on_its_way(Pkt, State);
user_receive_packet(Acc) -> Acc.

%%% From sessions: T4's flag, T5, T9, and presence towards channels

-spec user_send_packet(Acc) -> Acc | {stanza(), state()} | {stop, {drop, state()}}
          when Acc :: {stanza() | drop, state()}.
user_send_packet({Pkt, #{lserver := Host} = State} = Acc) when element(1, Pkt) == iq ->
    {_, Domain, _} = To = lower(xmpp:get_to(Pkt)),
    Own = To == jid:remove_resource(lower(xmpp:get_from(Pkt))),
    case {xmpp:get_type(Pkt), xmpp:get_els(Pkt)} of
        {Type, [El]} when Own, Type == get orelse Type == set ->
            from_own_session(Type, xmpp:get_ns(El), El, Pkt, State);
        _ ->
            _ = is_mix(Host, Domain) andalso mod_mixpam_tap_channels:copy_preference(Host, Pkt),
            to_component(Acc)
    end;
user_send_packet({Pkt, State} = Acc) when element(1, Pkt) == presence ->
    case mod_mixpam_tap_lists:is_suppressed(Pkt) of
        true -> {stop, {drop, State}};
        false -> to_component(Acc)
    end;
user_send_packet({Pkt, _} = Acc) when element(1, Pkt) == message -> to_component(Acc);
user_send_packet(Acc) -> Acc.

-spec to_component(Acc) -> Acc | {stop, {drop, state()}}
          when Acc :: {stanza(), state()}.
to_component({Pkt, #{lserver := Host} = State} = Acc) ->
    case mod_mixpam_tap_link:takes(Host, Pkt) of
        true -> Acc;
        false -> mod_mixpam_tap_link:refuse(Pkt), {stop, {drop, State}}
    end.

%% The client's `ver` could make the answer empty and hide the annotations; an empty one never
%% matches, and keeps versions in the answer.
-spec from_own_session(get | set, binary(), any(), stanza(), state()) ->
          {stanza(), state()} | {stop, {drop, state()}}.
from_own_session(get, ?ROSTER, El, Pkt, State) ->
    {xmlel, Name, Attrs, Els} = xmpp:encode(El),
    case [E || E <- Els, not is_annotate(E)] of
        Els -> {Pkt, maps:remove(mixpam_annotate, State)};
        Rest ->
            Attrs1 = [case A of {<<"ver">>, _} -> {<<"ver">>, <<>>}; _ -> A end || A <- Attrs],
            {xmpp:set_els(Pkt, [{xmlel, Name, Attrs1, Rest}]), State#{mixpam_annotate => true}}
    end;
from_own_session(set, <<"urn:xmpp:blocking">>, El, Pkt, State) ->
    mod_mixpam_tap_lists:asked(El),
    {Pkt, State};
from_own_session(_, NS, _, Pkt, #{lserver := Host} = State) ->
    case lists:member(NS, ?PAM) andalso link_of(Host) of
        false -> {Pkt, State};
        {Link, up} -> mod_mixpam_tap_requests:ask(Link, Pkt, State);
        _ ->
            Text = <<"MIX is not available just now">>,
            mod_mixpam_tap_requests:refuse(
              Pkt, xmpp:err_service_unavailable(Text, xmpp:get_lang(Pkt)), State)
    end.

-spec is_annotate(xml()) -> boolean().
is_annotate({xmlel, <<"annotate">>, Attrs, _}) -> attr(<<"xmlns">>, Attrs) == ?MIX_ROSTER;
is_annotate(_) -> false.

%% T5 from other users. decode_iq_subel keeps ejabberd from validating the content.
-spec process_iq(stanza()) -> stanza().
process_iq(IQ) ->
    Text = <<"Only the account's own sessions may ask this">>,
    xmpp:make_error(IQ, xmpp:err_forbidden(Text, xmpp:get_lang(IQ))).

-spec decode_iq_subel(xml()) -> xml().
decode_iq_subel(El) -> El.

%%% The session's process

%% A session that waits for the component monitors the link itself.
-spec watch(pid(), state()) -> state().
watch(Link, State) ->
    Watched = maps:get(mixpam_watched, State, []),
    case lists:member(Link, Watched) of
        true -> State;
        false ->
            erlang:monitor(process, Link),
            State#{mixpam_watched => [Link | Watched]}
    end.

%% A process whose session was just resumed by another one keeps late stanzas for its successor, and
%% handles nothing else.
-spec c2s_handle_info(state(), any()) -> state() | {stop, state()}.
c2s_handle_info(#{mgmt_state := resumed} = State, {mixpam, deliver, Pkt}) ->
    Late = maps:get(mixpam_late, State, []),
    {stop, State#{mixpam_late => lists:sublist([Pkt | Late], ?LATE)}};
c2s_handle_info(#{mgmt_state := resumed} = State, {timeout, _, mixpam}) -> {stop, State};
c2s_handle_info(State, {mixpam, deliver, Pkt}) -> {stop, deliver(Pkt, State)};
c2s_handle_info(#{mgmt_state := resumed} = State, {mixpam, owed}) -> {stop, State};
c2s_handle_info(State, {mixpam, owed}) -> {stop, mod_mixpam_tap_online:owed(State)};
c2s_handle_info(#{jid := JID} = State, {mixpam, blocking, Change}) ->
    mod_mixpam_tap_lists:changed(Change, JID),
    {stop, State};
c2s_handle_info(State, {mixpam, Ask, Worker, Ref}) ->
    _ = case Ask of
            {replay, Link} -> mod_mixpam_tap_online:replay(Link, State);
            sync -> ok
        end,
    Worker ! {mixpam_done, Ref},
    {stop, State};
c2s_handle_info(State, {timeout, Timer, mixpam}) -> {stop, timeout(Timer, State)};
c2s_handle_info(#{mixpam_watched := Watched} = State, {'DOWN', _, process, Link, _} = Down) ->
    case lists:member(Link, Watched) of
        true -> {stop, link_lost(Link, State#{mixpam_watched => lists:delete(Link, Watched)})};
        false -> c2s_other_info(State, Down)
    end;
c2s_handle_info(State, Info) -> c2s_other_info(State, Info).

%% mod_roster requests that presence be sent to a contact who may now see it.
-spec c2s_other_info(state(), any()) -> state() | {stop, state()}.
c2s_other_info(#{jid := JID} = State, {resend_presence, To}) when To /= undefined ->
    {_, Host, _} = jid:tolower(JID),
    {_, Domain, R} = jid:tolower(To),
    case R == <<>> andalso is_mix(Host, Domain) of
        true -> {stop, State};
        false -> State
    end;
c2s_other_info(State, _) -> State.

-spec timeout(reference(), state()) -> state().
timeout(Timer, State) ->
    case mod_mixpam_tap_requests:timeout(Timer, State) of
        none -> mod_mixpam_tap_annotations:timeout(Timer, State);
        State1 -> State1
    end.

-spec link_lost(pid(), state()) -> state().
link_lost(Link, State) ->
    mod_mixpam_tap_annotations:link_lost(Link, mod_mixpam_tap_requests:link_lost(Link, State)).

%% Runs in the successor's process, so that timers and monitors are its own.
-spec c2s_copy_session(state(), state()) -> state().
c2s_copy_session(New, Old) ->
    State = lists:foldl(fun(Module, Acc) -> Module:copy(Acc, Old) end, New,
                        [mod_mixpam_tap_annotations, mod_mixpam_tap_requests,
                         mod_mixpam_tap_online]),
    lists:foldl(fun watch/2, State, maps:get(mixpam_watched, Old, [])).

-spec c2s_self_presence(Acc) -> Acc | {stanza(), state()}
          when Acc :: {stanza() | drop, state()}.
c2s_self_presence({Pkt, #{lserver := _, jid := _} = State}) when is_tuple(Pkt) ->
    mod_mixpam_tap_online:presence(Pkt, State);
c2s_self_presence(Acc) -> Acc.

-spec c2s_session_pending(state()) -> state().
c2s_session_pending(State) -> mod_mixpam_tap_online:hibernated(State).
-spec c2s_session_resumed(state()) -> state().
c2s_session_resumed(State) -> mod_mixpam_tap_online:resumed(State).

-spec c2s_terminated(state(), any()) -> state().
c2s_terminated(#{mgmt_state := resumed, jid := JID} = State, _Reason) ->
    mod_mixpam_tap_online:moved(State),
    {U, Host, R} = jid:tolower(JID),
    Late = lists:reverse(maps:get(mixpam_late, State, [])) ++ late(),
    [deliver_to(U, Host, R, Pkt) || Pkt <- Late],
    State;
c2s_terminated(#{jid := _} = State, _Reason) ->
    mod_mixpam_tap_online:ended(State),
    without_copies(State);
c2s_terminated(State, _Reason) -> State.

-spec late() -> [copy()].
late() ->
    receive {mixpam, deliver, Pkt} -> [Pkt | late()] after 0 -> [] end.

%% C1: mod_stream_mgmt would bounce the rest, or store it offline.
-spec without_copies(state()) -> state().
without_copies(#{mgmt_queue := Queue} = State) ->
    Keep = p1_queue:foldl(fun({_, _, Pkt} = Item, Acc) ->
                              case is_copy(Pkt) of
                                  true -> Acc;
                                  false -> p1_queue:in(Item, Acc)
                              end
                          end, p1_queue:new(), Queue),
    State#{mgmt_queue => Keep};
without_copies(State) -> State.

-spec is_copy(any()) -> boolean().
is_copy(Pkt) -> xmpp:is_stanza(Pkt) andalso element(1, Pkt) /= xmlel
                    andalso xmpp:get_meta(Pkt, mixpam, false).

%%% Features

-spec disco_sm_features(Acc, jid:jid(), jid:jid(), binary(), binary()) -> Acc
          when Acc :: {error, any()} | {result, [binary()]} | empty.
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
