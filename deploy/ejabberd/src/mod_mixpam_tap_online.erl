%%% Available sessions, and what is reported of them to the component: presence (T6), hibernation
%%% and resumption (T7), and sessions that ended without a hook. The rows of mixpam_online,
%%%
%%%   {mixpam_online, {Host, Full JID as text}, Pid}   an available session, on any node
%%%   {mixpam_online, {list, Full JID as text}, _}     is mod_mixpam_tap_lists' own
%%%
%%% also route copies for many devices (C6).
-module(mod_mixpam_tap_online).

-export([presence/2, owed/1, pay/2, replay/2, copy/2, hibernated/1, resumed/1, moved/1, ended/1,
         sweep/0, lost/1, leave/1]).

-import(mod_mixpam_tap_link, [component/1, event/3, has_room/1, link_of/1, parsed/1, pass/2,
                              send/2, stanza/3, to_link/2]).

-define(OWED, 500). % ms

-type stanza() :: mod_mixpam_tap_link:stanza().
-type state() :: mod_mixpam_tap_sessions:state().

%%% Rows

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

%%% Presence of sessions: T6

%% The presence that the session has sent, as contacts see it.
-spec presence(stanza(), state()) -> {stanza(), state()}.
presence(Pkt, #{lserver := Host, jid := JID} = State) ->
    _ = online(State),
    case link_of(Host) of
        none -> {Pkt, State};
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
    end.

%% If too much waits, the last presence of a session is sent when there is room.
-spec owe(state()) -> state().
owe(#{mixpam_owed := true} = State) -> State;
owe(State) ->
    erlang:send_after(?OWED, self(), {mixpam, owed}),
    State#{mixpam_owed => true}.

-spec owed(state()) -> state().
owed(#{mixpam_owed := true, lserver := Host} = State) ->
    case link_of(Host) of
        none -> maps:remove(mixpam_owed, State); % reported by the replay
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
        #{pres_last := _} -> replay(Link, State);
        _ -> gone(JID)
    end,
    maps:remove(mixpam_owed, State);
pay(_, State) -> State.

-spec replay(pid(), state()) -> any().
replay(Link, #{lserver := Host, jid := JID} = State) ->
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

%% Called when another process takes over the session.
-spec copy(state(), state()) -> state().
copy(New, #{mixpam_owed := true}) -> owe(New);
copy(New, _Old) -> New.

%%% Resumption and end of sessions: T7, T6

-spec hibernated(state()) -> state().
hibernated(State) -> session_changed(<<"hibernated">>, State).
-spec resumed(state()) -> state().
resumed(State) ->
    _ = online(State),
    session_changed(<<"resumed">>, State).

-spec session_changed(binary(), state()) -> state().
session_changed(Name, #{lserver := Host} = State) ->
    to_link(Host, session_event(Name, State)),
    State.

-spec session_event(binary(), state()) -> stanza().
session_event(Name, #{lserver := Host, jid := JID}) ->
    event(Host, Name, [{<<"jid">>, jid:encode(JID)}]).

%% Another process has resumed it.
-spec moved(state()) -> ok.
moved(State) -> mnesia:dirty_delete_object(row(State)).

-spec ended(state()) -> any().
ended(#{jid := JID} = State) ->
    _ = offline(State),
    is_map_key(pres_last, State) andalso not is_replaced(JID, self()) andalso gone(JID).

-spec gone(jid:jid()) -> any().
gone(JID) ->
    {_, Host, _} = jid:tolower(JID),
    to_link(Host, stanza(<<"presence">>,
                [{<<"from">>, jid:encode(JID)}, {<<"to">>, component(Host)},
                 {<<"type">>, <<"unavailable">>}], {xmlcdata, <<>>})).

%% A new session of the same full JID that is already available stands for it.
-spec is_replaced(jid:jid(), pid()) -> boolean().
is_replaced(JID, Pid) ->
    {U, Host, R} = jid:tolower(JID),
    case ejabberd_sm:get_user_info(U, Host, R) of
        offline -> false;
        Info -> proplists:get_value(pid, Info) /= Pid
                    andalso is_integer(proplists:get_value(priority, Info))
    end.

%%% Sessions without a process

%% Sessions whose process was killed, or whose node has died: no hook has reported their end.
-spec sweep() -> ok.
sweep() ->
    Here = node(),
    Others = nodes(),
    lost(fun(Pid) when node(Pid) == Here -> not mod_mixpam_tap_link:runs(Pid);
            (Pid) -> not lists:member(node(Pid), Others)
         end).

-spec lost(fun((pid()) -> boolean())) -> ok.
lost(IsGone) -> lost(IsGone, ets:tab2list(mixpam_online)).

%% This node's, when it no longer has the tap: it may stop before its sessions do.
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
