%%% Rosters on their way to a session that requested annotations: T4, and its way back by C1. Each
%%% waits in the session's state (mixpam_rosters, see mod_mixpam_tap_sessions) until all its parts
%%% are back; five seconds after it came, or when the link ends, it is delivered without the missing
%%% annotations.
-module(mod_mixpam_tap_annotations).

-export([on_its_way/2, answered/3, timeout/2, link_lost/2, copy/2]).

-import(mod_mixpam_tap_link, [attr/2, bare/1, has_room/1, is_mix/2, link_of/1, lower/1, parsed/1,
                              send/2, stanza/3]).

-define(ROSTER, <<"jabber:iq:roster">>).
-define(MIX_ROSTER, <<"urn:xmpp:mix:roster:0">>).
-define(ANNOTATE, {xmlel, <<"annotate">>, [{<<"xmlns">>, ?MIX_ROSTER}], []}).
-define(ROSTER_TIMEOUT, 5000). % ms
-define(PART, 50). % items
-define(PART_BYTES, 65536).
-define(WAITING, 50). % roster stanzas of one session

-type stanza() :: mod_mixpam_tap_link:stanza().
-type xml() :: mod_mixpam_tap_link:xml().
-type state() :: mod_mixpam_tap_sessions:state().
-type marks() :: #{jid:ljid() => [xml()]}.
-type roster() :: {result | set, pid() | none, Ids :: [binary()], marks(),
                   stanza(), reference() | none}.

%%% To the component

-spec on_its_way(stanza(), state()) -> {stanza(), state()} | {stop, {drop, state()}}.
on_its_way(Pkt, State) ->
    case own_roster(Pkt, State) of
        none -> {Pkt, State};
        Query -> roster_for_session(xmpp:get_type(Pkt), Query, Pkt, State)
    end.

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
            State1 = State#{mixpam_rosters => Rosters ++ [Out]},
            {stop, {drop, mod_mixpam_tap_sessions:watch(Link, State1)}};
        _ when Rosters /= [] ->
            Ready = {Type, none, [], #{}, Pkt, none},
            {stop, {drop, State#{mixpam_rosters => Rosters ++ [Ready]}}};
        _ -> {Pkt, State}
    end.

-spec roomy_link(binary()) -> {pid(), connected | up} | none | false.
roomy_link(Host) ->
    case link_of(Host) of
        {Link, _} = Found -> has_room(Link) andalso Found;
        none -> none
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

%% Each has five seconds of its own, from its arrival.
-spec out(roster()) -> roster().
out({_, _, [], _, _, _} = Ready) -> Ready;
out(Roster) -> setelement(6, Roster, erlang:start_timer(?ROSTER_TIMEOUT, self(), mixpam)).

-spec is_out(binary(), roster()) -> boolean().
is_out(Id, {_, _, Ids, _, _, _}) -> lists:member(Id, Ids).

%%% From the component

%% Its stanza by C1, if it is about a roster.
-spec answered(binary(), stanza(), state()) -> {taken, state()} | none.
answered(Id, Pkt, State) ->
    Rosters = maps:get(mixpam_rosters, State, []),
    case {own_roster(Pkt, State), lists:any(fun(Roster) -> is_out(Id, Roster) end, Rosters)} of
        {none, true} -> % an error
            {taken, completed(fun(Roster) -> is_out(Id, Roster) end, State)};
        {none, false} -> none;
        {Query, _} -> {taken, advance([part(Id, Query, Roster) || Roster <- Rosters], State)}
    end.

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

%% One that was there before does not come from the component.
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

-spec timeout(reference(), state()) -> state().
timeout(Timer, State) -> completed(fun(Roster) -> element(6, Roster) == Timer end, State).

-spec link_lost(pid(), state()) -> state().
link_lost(Link, State) ->
    completed(fun({_, L, Ids, _, _, _}) -> L == Link andalso Ids /= [] end, State).

%%% To the session

-spec completed(fun((roster()) -> boolean()), state()) -> state().
completed(IsMeant, State) ->
    advance([case IsMeant(Roster) of true -> complete(Roster); false -> Roster end
             || Roster <- maps:get(mixpam_rosters, State, [])], State).

%% It is delivered unchanged.
-spec complete(roster()) -> roster().
complete({Type, Link, _, Marks, Pkt, Timer}) ->
    _ = Timer == none orelse erlang:cancel_timer(Timer),
    {Type, Link, [], Marks, Pkt, none}.

%% In the order in which they came.
-spec advance([roster()], state()) -> state().
advance([{_, _, [], _, Pkt, _} | Rest], State) -> advance(Rest, ejabberd_c2s:send(State, Pkt));
advance([], State) -> maps:remove(mixpam_rosters, State);
advance(Rosters, State) -> State#{mixpam_rosters => Rosters}.

%% Called when another process goes on with the session.
-spec copy(state(), state()) -> state().
copy(New, Old) ->
    State = maps:merge(New, maps:with([mixpam_annotate], Old)),
    case [out(Roster) || Roster <- maps:get(mixpam_rosters, Old, [])] of
        [] -> State;
        Rosters -> State#{mixpam_rosters => Rosters}
    end.
