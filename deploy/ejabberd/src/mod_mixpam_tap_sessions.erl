%%% Users' sessions. From them: T5, T6, T7, T9 and the flag of T4. To them: C1, C6 and T4.
%%% Nearly all of this runs in the session's own process, and what it keeps is in its state:
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
-module(mod_mixpam_tap_sessions).

-export([deliver_to_all/2, deliver_to/4, sweep/0, lost/1, leave/1, process_iq/1,
         decode_iq_subel/1]).
-export([user_send_packet/1, user_receive_packet/1, c2s_handle_info/2, c2s_copy_session/2,
         c2s_self_presence/1, c2s_terminated/2, c2s_session_pending/1, c2s_session_resumed/1,
         disco_sm_features/5]).

-import(mod_mixpam_tap_link, [archives/1, attr/2, bare/1, component/1, event/3, has_room/1,
                              is_mix/2, link_of/1, lower/1, parsed/1, pass/2, send/2, stanza/3,
                              to_link/2]).

-define(ROSTER, <<"jabber:iq:roster">>).
-define(MIX_ROSTER, <<"urn:xmpp:mix:roster:0">>).
-define(ANNOTATE, {xmlel, <<"annotate">>, [{<<"xmlns">>, ?MIX_ROSTER}], []}).
-define(PAM, [<<"urn:xmpp:mix:pam:0">>, <<"urn:xmpp:mix:pam:1">>, <<"urn:xmpp:mix:pam:2">>]).
-define(ROSTER_TIMEOUT, 5000). % ms
-define(PART, 50). % items
-define(PART_BYTES, 65536).
-define(WAITING, 50). % roster stanzas of one session
-define(ASKED, 200). % open requests of one session
-define(ASKED_BYTES, 65536). % of their ids
-define(ASKED_TIMEOUT, 120000). % ms
-define(LATE, 1000). % stanzas
-define(OWED, 500). % ms

-type stanza() :: mod_mixpam_tap_link:stanza().
-type xml() :: mod_mixpam_tap_link:xml().
-type attr() :: mod_mixpam_tap_link:attr().

%% Of a session, as ejabberd_c2s has it; a copy is a stanza, or one for many with the archive's id.
-type state() :: map().
-type copy() :: stanza() | {stanza(), Id :: binary()}.
-type marks() :: #{jid:ljid() => [xml()]}.
-type roster() :: {result | set, pid() | none, Ids :: [binary()], marks(),
                   stanza(), reference() | none}.
-type asked() :: {Id :: binary(), Link :: pid(), reference()}.

%%% To sessions: C1, C6

%% C6. Each session writes its own address and id into the copy: here, they would wait in
%% line. One that is online is known by its address alone; ejabberd's table takes ten times
%% as long, above all when a copy has just been sent and the process has not run yet.
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

%% The way back of T4 and T5 is by C1, too. What nobody waits for is late.
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
    Rosters = maps:get(mixpam_rosters, State, []),
    case {own_roster(Pkt, State), lists:any(fun(Roster) -> is_out(Id, Roster) end, Rosters)} of
        {none, true} -> % an error
            Rosters1 = [case is_out(Id, Roster) of true -> complete(Roster); false -> Roster end
                        || Roster <- Rosters],
            {taken, advance(Rosters1, State)};
        {none, false} -> answered(Id, Pkt, State);
        {Query, _} -> {taken, advance([part(Id, Query, Roster) || Roster <- Rosters], State)}
    end;
settle(_, State) -> State.

%%% Rosters on their way to a flagged session: T4

-spec user_receive_packet(Acc) -> Acc | {stanza(), state()} | {stop, {drop, state()}}
          when Acc :: {stanza() | drop, state()}.
user_receive_packet({Pkt, #{mixpam_annotate := true} = State} = Acc) when element(1, Pkt) == iq ->
    case own_roster(Pkt, State) of
        none -> Acc;
        Query -> roster_for_session(xmpp:get_type(Pkt), Query, Pkt, State)
    end;
user_receive_packet(Acc) -> Acc.

-spec roster_for_session(result | set, xml(), stanza(), state()) ->
          {stanza(), state()} | {stop, {drop, state()}}.
roster_for_session(Type, {xmlel, _, _, Items}, Pkt, #{lserver := Host} = State) ->
    Rosters = maps:get(mixpam_rosters, State, []),
    MIX = [Item || Item <- Items, is_mix_item(Host, Item)],
    case lists:keymember(result, 1, Rosters) of
        true when Type == result -> {Pkt, State};
        _ when length(Rosters) >= ?WAITING ->
            {Pkt, advance([complete(Roster) || Roster <- Rosters], State)};
        _ -> roster_in_turn(Type, MIX, Pkt, Rosters, State)
    end.

-spec roster_in_turn(result | set, [xml()], stanza(), [roster()], state()) ->
          {stanza(), state()} | {stop, {drop, state()}}.
roster_in_turn(Type, MIX, Pkt, Rosters, #{lserver := Host} = State) ->
    case MIX /= [] andalso roomy_link(Host) of
        {Link, _} ->
            Ids = [send_part(Link, Type, Part, Pkt) || Part <- parts(MIX)],
            Out = out({Type, Link, Ids, #{}, Pkt, none}),
            {stop, {drop, watch(Link, State#{mixpam_rosters => Rosters ++ [Out]})}};
        _ when Rosters /= [] ->
            Ready = {Type, none, [], #{}, Pkt, none},
            {stop, {drop, State#{mixpam_rosters => Rosters ++ [Ready]}}};
        _ -> {Pkt, State}
    end.

-spec own_roster(stanza(), state()) -> xml() | none.
own_roster(IQ, #{jid := JID}) ->
    case {xmpp:get_type(IQ), xmpp:get_els(IQ), lower(xmpp:get_from(IQ)) == bare(JID)} of
        {Type, [El], true} when Type == result; Type == set ->
            case xmpp:get_ns(El) of
                ?ROSTER -> xmpp:encode(El);
                _ -> none
            end;
        _ -> none
    end.

-spec is_mix_item(binary(), xml()) -> boolean().
is_mix_item(Host, {xmlel, <<"item">>, Attrs, _}) ->
    case parsed(attr(<<"jid">>, Attrs)) of
        {_, {_, Domain, _}} -> is_mix(Host, Domain);
        error -> false
    end;
is_mix_item(_, _) -> false.

-spec parts([xml()]) -> [[xml()]].
parts(Items) -> parts(Items, [], 0, 0).

-spec parts([xml()], [xml()], non_neg_integer(), non_neg_integer()) -> [[xml()]].
parts([], [], _, _) -> [];
parts([], Part, _, _) -> [lists:reverse(Part)];
parts([{xmlel, Name, Attrs, _} | Rest] = Items, Part, N, Bytes) ->
    El = {xmlel, Name, [A || {Key, _} = A <- Attrs,
                             Key == <<"jid">> orelse Key == <<"subscription">>], []},
    Size = Bytes + byte_size(fxml:element_to_binary(El)),
    case N < ?PART andalso Size =< ?PART_BYTES orelse N == 0 of
        true -> parts(Rest, [El | Part], N + 1, Size);
        false -> [lists:reverse(Part) | parts(Items, [], 0, 0)]
    end.

-spec send_part(pid(), result | set, [xml()], stanza()) -> binary().
send_part(Link, Type, Items, Pkt) ->
    Id = <<"tap-", (p1_rand:get_string())/binary>>,
    send(Link, stanza(<<"iq">>, [{<<"type">>, atom_to_binary(Type, utf8)}, {<<"id">>, Id},
                                 {<<"from">>, jid:encode(xmpp:get_from(Pkt))},
                                 {<<"to">>, jid:encode(xmpp:get_to(Pkt))}],
                      {xmlel, <<"query">>, [{<<"xmlns">>, ?ROSTER}], [?ANNOTATE | Items]})),
    Id.

%% Each has its own five seconds from when it came.
-spec out(roster()) -> roster().
out({_, _, [], _, _, _} = Ready) -> Ready;
out(Roster) -> setelement(6, Roster, erlang:start_timer(?ROSTER_TIMEOUT, self(), mixpam)).

-spec is_out(binary(), roster()) -> boolean().
is_out(Id, {_, _, Ids, _, _, _}) -> lists:member(Id, Ids).

-spec part(binary(), xml(), roster()) -> roster().
part(Id, {xmlel, _, _, Items}, {Type, Link, Ids, Marks, Pkt, Timer} = Roster) ->
    case lists:member(Id, Ids) of
        false -> Roster;
        true ->
            New = [{LJID, Channels} || {xmlel, <<"item">>, Attrs, Els} <- Items,
                                       {_, LJID} <- [parsed(attr(<<"jid">>, Attrs))],
                                       Channels <- [[El || El <- Els, is_channel(El)]],
                                       Channels /= []],
            case {Type, Link, lists:delete(Id, Ids), maps:merge(Marks, maps:from_list(New)), Pkt,
                  Timer} of
                {_, _, [], Marks1, _, _} ->
                    _ = erlang:cancel_timer(Timer),
                    {Type, Link, [], Marks1, annotated(Pkt, Marks1), none};
                More -> More
            end
    end.

-spec is_channel(xml()) -> boolean().
is_channel({xmlel, <<"channel">>, Attrs, _}) -> attr(<<"xmlns">>, Attrs) == ?MIX_ROSTER;
is_channel(_) -> false.

%% One that was there already was not put there by the component.
-spec annotated(stanza(), marks()) -> stanza().
annotated(Pkt, Marks) ->
    [El] = xmpp:get_els(Pkt),
    {xmlel, Name, Attrs, Items} = xmpp:encode(El),
    xmpp:set_els(Pkt, [{xmlel, Name, Attrs, [with_channel(Item, Marks) || Item <- Items]}]).

-spec with_channel(xml(), marks()) -> xml().
with_channel({xmlel, <<"item">> = Name, Attrs, Els}, Marks) ->
    Mark = case parsed(attr(<<"jid">>, Attrs)) of
               {_, LJID} -> maps:get(LJID, Marks, []);
               error -> []
           end,
    {xmlel, Name, Attrs, [El || El <- Els, not is_channel(El)] ++ Mark};
with_channel(El, _) -> El.

%% It goes as it is.
-spec complete(roster()) -> roster().
complete({Type, Link, _, Marks, Pkt, Timer}) ->
    _ = Timer == none orelse erlang:cancel_timer(Timer),
    {Type, Link, [], Marks, Pkt, none}.

%% In the order in which they came.
-spec advance([roster()], state()) -> state().
advance([{_, _, [], _, Pkt, _} | Rest], State) -> advance(Rest, ejabberd_c2s:send(State, Pkt));
advance([], State) -> maps:remove(mixpam_rosters, State);
advance(Rosters, State) -> State#{mixpam_rosters => Rosters}.

%%% From sessions: T4's flag, T5, T9, and presence that is the component's alone

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

%% An own `ver` could make the answer empty and hide the annotations; an empty
%% one never matches, and keeps versions in the answer.
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
        {Link, up} -> ask(Link, Pkt, State);
        _ ->
            Text = <<"MIX is not available just now">>,
            refuse(Pkt, xmpp:err_service_unavailable(Text, xmpp:get_lang(Pkt)), State)
    end.

-spec roomy_link(binary()) -> {pid(), connected | up} | none | false.
roomy_link(Host) ->
    case link_of(Host) of
        {Link, _} = Found -> has_room(Link) andalso Found;
        none -> none
    end.

-spec is_annotate(xml()) -> boolean().
is_annotate({xmlel, <<"annotate">>, Attrs, _}) -> attr(<<"xmlns">>, Attrs) == ?MIX_ROSTER;
is_annotate(_) -> false.

-spec refuse(stanza(), any(), state()) -> {stop, {drop, state()}}.
refuse(IQ, Error, State) ->
    ejabberd_router:route_error(IQ, Error),
    {stop, {drop, State}}.

%% Ids alone are kept, and as copies: they are parts of what was read from the socket.
-spec ask(pid(), stanza(), state()) -> {stop, {drop, state()}}.
ask(Link, IQ, State) ->
    Asked = maps:get(mixpam_asked, State, []),
    Id = binary:copy(xmpp:get_id(IQ)),
    Bytes = lists:sum([byte_size(I) || {I, _, _} <- Asked]) + byte_size(Id),
    case length(Asked) < ?ASKED andalso Bytes =< ?ASKED_BYTES andalso has_room(Link) of
        true ->
            State1 = pay(Link, State),
            send(Link, IQ),
            {stop, {drop, watch(Link, State1#{mixpam_asked => [open(Id, Link) | Asked]})}};
        false ->
            Text = <<"Too many requests are open">>,
            refuse(IQ, xmpp:err_resource_constraint(Text, xmpp:get_lang(IQ)), State)
    end.

-spec open(binary(), pid()) -> asked().
open(Id, Link) -> {Id, Link, erlang:start_timer(?ASKED_TIMEOUT, self(), mixpam)}.

-spec answered(binary(), stanza(), state()) -> state() | {taken, state()}.
answered(Id, Pkt, #{jid := JID} = State) ->
    case lists:member(xmpp:get_type(Pkt), [result, error])
        andalso lower(xmpp:get_from(Pkt)) == bare(JID) of
        false -> State;
        true ->
            case lists:keytake(Id, 1, maps:get(mixpam_asked, State, [])) of
                {value, {_, _, Timer}, Rest} ->
                    _ = erlang:cancel_timer(Timer),
                    State#{mixpam_asked => Rest};
                false ->
                    %% Nobody's answer but the component's own: C1 is any stanza.
                    case lists:member(erlang:phash2(Id), maps:get(mixpam_expired, State, [])) of
                        true -> {taken, State};
                        false -> State
                    end
            end
    end.

%% Oldest first.
-spec not_answered([asked()], any(), state()) -> state().
not_answered(Asked, Error, State) ->
    lists:foldr(fun({Id, _, _}, Acc) -> ejabberd_c2s:send(Acc, error_for(Id, Error, Acc)) end,
                State, Asked).

-spec error_for(binary(), any(), state()) -> stanza().
error_for(Id, Error, #{jid := JID}) ->
    stanza(<<"iq">>, [{<<"type">>, <<"error">>}, {<<"id">>, Id}, {<<"to">>, jid:encode(JID)},
                      {<<"from">>, jid:encode(jid:remove_resource(JID))}], xmpp:encode(Error)).

%% T5 of others. decode_iq_subel keeps ejabberd from judging what is inside.
-spec process_iq(stanza()) -> stanza().
process_iq(IQ) ->
    Text = <<"Only the account's own sessions may ask this">>,
    xmpp:make_error(IQ, xmpp:err_forbidden(Text, xmpp:get_lang(IQ))).

-spec decode_iq_subel(xml()) -> xml().
decode_iq_subel(El) -> El.

%%% The session's process

%% A session that waits for the component learns of the link's death by itself.
-spec watch(pid(), state()) -> state().
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
-spec c2s_handle_info(state(), any()) -> state() | {stop, state()}.
c2s_handle_info(#{mgmt_state := resumed} = State, {mixpam, deliver, Pkt}) ->
    Late = maps:get(mixpam_late, State, []),
    {stop, State#{mixpam_late => lists:sublist([Pkt | Late], ?LATE)}};
c2s_handle_info(#{mgmt_state := resumed} = State, {timeout, _, mixpam}) -> {stop, State};
c2s_handle_info(State, {mixpam, deliver, Pkt}) -> {stop, deliver(Pkt, State)};
c2s_handle_info(#{mgmt_state := resumed} = State, {mixpam, owed}) -> {stop, State};
c2s_handle_info(State, {mixpam, owed}) -> {stop, owed(State)};
c2s_handle_info(#{jid := JID} = State, {mixpam, blocking, Change}) ->
    mod_mixpam_tap_lists:changed(Change, JID),
    {stop, State};
c2s_handle_info(State, {mixpam, Ask, Worker, Ref}) ->
    _ = case Ask of {replay, Link} -> replay_session(Link, State); sync -> ok end,
    Worker ! {mixpam_done, Ref},
    {stop, State};
c2s_handle_info(State, {timeout, Timer, mixpam}) -> {stop, timeout(Timer, State)};
c2s_handle_info(#{mixpam_watched := Watched} = State, {'DOWN', _, process, Link, _} = Down) ->
    case lists:member(Link, Watched) of
        true -> {stop, link_lost(Link, State#{mixpam_watched => lists:delete(Link, Watched)})};
        false -> c2s_other_info(State, Down)
    end;
c2s_handle_info(State, Info) -> c2s_other_info(State, Info).

%% mod_roster wants the presence sent to someone who may see it now.
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
    case lists:keytake(Timer, 3, maps:get(mixpam_asked, State, [])) of
        {value, {Id, _, _} = Late, Rest} ->
            Text = <<"MIX does not answer">>,
            Expired = [erlang:phash2(Id) | maps:get(mixpam_expired, State, [])],
            not_answered([Late], xmpp:err_remote_server_timeout(Text, lang(State)),
                         State#{mixpam_asked => Rest,
                                mixpam_expired => lists:sublist(Expired, ?ASKED)});
        false ->
            advance([case element(6, Roster) of Timer -> complete(Roster); _ -> Roster end
                     || Roster <- maps:get(mixpam_rosters, State, [])], State)
    end.

-spec lang(state()) -> binary().
lang(State) -> maps:get(lang, State, <<"en">>).

-spec link_lost(pid(), state()) -> state().
link_lost(Link, State) ->
    {Asked, Open} = lists:partition(fun({_, L, _}) -> L == Link end,
                                    maps:get(mixpam_asked, State, [])),
    [erlang:cancel_timer(Timer) || {_, _, Timer} <- Asked],
    Text = <<"MIX is not available just now">>,
    State1 = not_answered(Asked, xmpp:err_service_unavailable(Text, lang(State)),
                          State#{mixpam_asked => Open}),
    advance([case Roster of
                 {_, Link, [_ | _], _, _, _} -> complete(Roster);
                 _ -> Roster
             end || Roster <- maps:get(mixpam_rosters, State, [])], State1).

%% Runs in the successor's process, so that timers and monitors are its own.
-spec c2s_copy_session(state(), state()) -> state().
c2s_copy_session(New, Old) ->
    State = maps:merge(New, maps:with([mixpam_annotate], Old)),
    Rosters = [out(Roster) || Roster <- maps:get(mixpam_rosters, Old, [])],
    Asked = [open(Id, Link) || {Id, Link, _} <- maps:get(mixpam_asked, Old, [])],
    State1 = State#{mixpam_asked => Asked},
    State2 = case Rosters of [] -> State1; _ -> State1#{mixpam_rosters => Rosters} end,
    State3 = case Old of #{mixpam_owed := true} -> owe(State2); _ -> State2 end,
    lists:foldl(fun watch/2, State3, maps:get(mixpam_watched, Old, [])).

%%% Who is online: T6, T7

-spec online(state()) -> any().
online(State) ->
    {_, Key, _} = Row = row(State),
    ets:lookup(mixpam_online, Key) == [Row] orelse mnesia:dirty_write(Row).

-spec offline(state()) -> any().
offline(#{jid := JID} = State) ->
    mnesia:dirty_delete_object(row(State)),
    Key = {list, jid:encode(jid:tolower(JID))},
    ets:member(mixpam_online, Key) andalso mnesia:dirty_delete(mixpam_online, Key).

-spec row(state()) -> {mixpam_online, {binary(), binary()}, pid()}.
row(#{jid := JID}) ->
    {_, Host, _} = Full = jid:tolower(JID),
    {mixpam_online, {Host, jid:encode(Full)}, self()}.

-spec c2s_self_presence(Acc) -> Acc | {stanza(), state()}
          when Acc :: {stanza() | drop, state()}.
c2s_self_presence({Pkt, #{lserver := Host, jid := JID} = State} = Acc) when is_tuple(Pkt) ->
    _ = online(State),
    case link_of(Host) of
        none -> Acc;
        {Link, _} ->
            case has_room(Link) of
                true ->
                    Known = is_map_key(pres_last, State) andalso not is_map_key(mixpam_owed, State),
                    _ = Known orelse
                        mod_mixpam_tap_lists:tell_blocked(fun(Event) -> send(Link, Event) end, JID),
                    send(Link, xmpp:set_to(Pkt, jid:make(component(Host)))),
                    {Pkt, maps:remove(mixpam_owed, State)};
                false -> {Pkt, owe(State)}
            end
    end;
c2s_self_presence(Acc) -> Acc.

%% Where too much waits, the last presence of a session comes when there is room.
-spec owe(state()) -> state().
owe(#{mixpam_owed := true} = State) -> State;
owe(State) ->
    erlang:send_after(?OWED, self(), {mixpam, owed}),
    State#{mixpam_owed => true}.

-spec owed(state()) -> state().
owed(#{mixpam_owed := true, lserver := Host} = State) ->
    case link_of(Host) of
        none -> maps:remove(mixpam_owed, State); % told of by the replay
        {Link, _} ->
            case has_room(Link) of
                true -> pay(Link, State);
                false -> owe(maps:remove(mixpam_owed, State))
            end
    end;
owed(State) -> State.

-spec pay(pid(), state()) -> state().
pay(Link, #{mixpam_owed := true, jid := JID} = State) ->
    case State of
        #{pres_last := _} -> replay_session(Link, State);
        _ -> gone(JID)
    end,
    maps:remove(mixpam_owed, State);
pay(_, State) -> State.

-spec replay_session(pid(), state()) -> any().
replay_session(Link, #{lserver := Host, jid := JID} = State) ->
    _ = mod_mixpam_tap_lists:tell_blocked(fun(Event) -> pass(Link, Event) end, JID),
    case State of
        #{pres_last := Pkt} ->
            _ = online(State),
            pass(Link, xmpp:set_to(Pkt, jid:make(component(Host))));
        _ -> none
    end,
    case State of
        #{mgmt_state := pending} -> send(Link, session_event(<<"hibernated">>, State));
        _ -> none
    end.

-spec c2s_session_pending(state()) -> state().
c2s_session_pending(State) -> session_changed(<<"hibernated">>, State).
-spec c2s_session_resumed(state()) -> state().
c2s_session_resumed(State) ->
    _ = online(State),
    session_changed(<<"resumed">>, State).

-spec session_changed(binary(), state()) -> state().
session_changed(Name, #{lserver := Host} = State) ->
    to_link(Host, session_event(Name, State)),
    State.

-spec session_event(binary(), state()) -> stanza().
session_event(Name, #{lserver := Host, jid := JID}) ->
    event(Host, Name, [{<<"jid">>, jid:encode(JID)}]).

-spec c2s_terminated(state(), any()) -> state().
c2s_terminated(#{mgmt_state := resumed, jid := JID} = State, _Reason) ->
    mnesia:dirty_delete_object(row(State)),
    {U, Host, R} = jid:tolower(JID),
    Late = lists:reverse(maps:get(mixpam_late, State, [])) ++ late(),
    [deliver_to(U, Host, R, Pkt) || Pkt <- Late],
    State;
c2s_terminated(#{jid := JID} = State, _Reason) ->
    _ = offline(State),
    _ = is_map_key(pres_last, State) andalso not is_replaced(JID, self()) andalso gone(JID),
    without_copies(State);
c2s_terminated(State, _Reason) -> State.

-spec late() -> [copy()].
late() ->
    receive {mixpam, deliver, Pkt} -> [Pkt | late()] after 0 -> [] end.

-spec gone(jid:jid()) -> any().
gone(JID) ->
    {_, Host, _} = jid:tolower(JID),
    to_link(Host, stanza(<<"presence">>,
                [{<<"from">>, jid:encode(JID)}, {<<"to">>, component(Host)},
                 {<<"type">>, <<"unavailable">>}], {xmlcdata, <<>>})).

%% A new session of the same full JID that is available already speaks for it.
-spec is_replaced(jid:jid(), pid()) -> boolean().
is_replaced(JID, Pid) ->
    {U, Host, R} = jid:tolower(JID),
    case ejabberd_sm:get_user_info(U, Host, R) of
        offline -> false;
        Info -> proplists:get_value(pid, Info) /= Pid
                    andalso is_integer(proplists:get_value(priority, Info))
    end.

%% Sessions whose process was killed, or whose node has died: nobody has said that they ended.
-spec sweep() -> ok.
sweep() ->
    Here = node(),
    Others = nodes(),
    lost(fun(Pid) when node(Pid) == Here -> not mod_mixpam_tap_link:runs(Pid);
            (Pid) -> not lists:member(node(Pid), Others)
         end).

-spec lost(fun((pid()) -> boolean())) -> ok.
lost(IsGone) -> lost(IsGone, ets:tab2list(mixpam_online)).

%% This node's, when it has no tap any more: it may stop before its sessions do.
-spec leave(binary()) -> ok.
leave(Host) ->
    lost(fun(Pid) -> node(Pid) == node() end,
         ets:match_object(mixpam_online, {'_', {Host, '_'}, '_'})).

-spec lost(fun((pid()) -> boolean()), [tuple()]) -> ok.
lost(IsGone, Rows) ->
    lists:foreach(fun({_, Key, Value} = Row) ->
        Pid = case Value of {_, P} -> P; P -> P end,
        case {IsGone(Pid), Key} of
            {false, _} -> ok;
            {true, {list, _}} -> mnesia:dirty_delete_object(Row);
            {true, {_, Address}} ->
                mnesia:dirty_delete_object(Row),
                {JID, _} = parsed(Address),
                is_replaced(JID, Pid) orelse gone(JID)
        end
    end, Rows).

%% C1: mod_stream_mgmt would bounce what is left, or store it offline.
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
