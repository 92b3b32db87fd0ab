%%% Several at once: T10. A process beside the link, which sends batches when they are full, or when
%%% nothing more comes. Its whole state is in the rows of mod_mixpam_tap_batches: if it ends for any
%%% reason, the one started in its place goes on with them.
-module(mod_mixpam_tap_gatherer).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-import(mod_mixpam_tap_link, [parsed/1, pass/2]).
-import(mod_mixpam_tap_batches, [with_id/2]).

-include("logger.hrl").

-define(CROWD, 50). % stanzas before the link, above which batches wait
-define(FLOOD, 100000). % messages before a link that takes none, above which it is closed
-define(FLOOD_BYTES, 134217728). % the same, of what is in them
-define(PATIENCE, 5). % ms that a message waits for others at most
-define(ADDRESS, <<"http://jabber.org/protocol/address">>).

-type stanza() :: mod_mixpam_tap_link:stanza().

%% `open` is a batch for each process that brings stanzas, and `until` the time (ms, monotonic)
%% at which they are sent.
-type state() :: #{host := binary(), store := mod_mixpam_tap_batches:store(),
                   open := #{pid() => mod_mixpam_tap_batches:batch()}, until := integer()}.

-spec start_link(binary()) -> {ok, pid()} | {error, any()}.
start_link(Host) ->
    gen_server:start_link({local, mod_mixpam_tap_batches:name(Host)}, ?MODULE, Host, []).

%% The name is taken by now. Batches opened without a notification before are in the rows.
-spec init(binary()) -> {ok, state(), {continue, left}}.
init(Host) ->
    process_flag(trap_exit, true),
    erlang:monitor(process, mod_mixpam_tap_keeper),
    Store = mod_mixpam_tap_keeper:store(Host),
    {ok, #{host => Host, store => Store, open => #{}, until => 0}, {continue, left}}.

-spec handle_continue(left, state()) -> {noreply, state()}.
handle_continue(left, #{host := Host} = State) ->
    case send_left(State) of
        0 -> ok;
        N -> ?WARNING_MSG("mod_mixpam_tap: the gatherer of ~ts was started again, and had "
                          "~B batches", [Host, N])
    end,
    {noreply, State}.

-spec handle_call(any(), any(), state()) -> {noreply, state()}.
handle_call(_, _, State) -> {noreply, State}.

-spec handle_cast(any(), state()) -> {noreply, state()}.
handle_cast(_, State) -> {noreply, State}.

%% A batch is sent when the process that brings it is idle, or at `until`; that is checked when the
%% batch is opened, so that a single message need not wait, and every millisecond. There is one for
%% each such process, because another process brings another channel's messages.
-spec handle_info(any(), state()) -> {noreply, state()} | {stop, any(), state()}.
handle_info({open, From, Batch}, #{open := Open} = State) ->
    send_all(State, maps:with([From], Open)),
    State1 = State#{open := Open#{From => Batch}},
    case map_size(Open) of
        0 ->
            self() ! look,
            {noreply, State1#{until := erlang:monotonic_time(millisecond) + ?PATIENCE}};
        _ -> {noreply, State1}
    end;
handle_info({pass, From, Batch}, #{open := Open} = State) ->
    send_all(State, maps:with([From], Open)),
    send(State, From, Batch),
    {noreply, State#{open := maps:remove(From, Open)}};
handle_info({gather, From, Pkt, Id}, #{host := Host} = State) -> % from another node
    mod_mixpam_tap_batches:pass_on(Host, From, Pkt, Id),
    {noreply, State};
handle_info(look, #{open := Open, until := Until} = State) ->
    Late = erlang:monotonic_time(millisecond) >= Until,
    case Late orelse lists:all(fun is_at_rest/1, maps:keys(Open)) of
        true ->
            send_all(State, Open),
            {noreply, State#{open := #{}}};
        false ->
            erlang:send_after(1, self(), look),
            {noreply, State}
    end;
handle_info({'DOWN', _, process, {mod_mixpam_tap_keeper, _}, _}, #{host := Host} = State) ->
    ?ERROR_MSG("mod_mixpam_tap: the keeper of ~ts has ended, and what waited with it: "
               "messages are in the archive only", [Host]),
    {stop, normal, State}; % supervised: is started again, with a new table
handle_info(_, State) -> {noreply, State}.

%% Of a domain that is no longer served.
-spec terminate(any(), state()) -> any().
terminate(shutdown, State) -> send_left(State);
terminate(_, _) -> ok.

-spec send_left(state()) -> non_neg_integer().
send_left(#{store := {Table, _, _}} = State) ->
    Left = mod_mixpam_tap_batches:left(Table),
    lists:foreach(fun({Batch, From}) -> send(State, From, Batch) end, Left),
    length(Left).

%% Idle in the loop of its behaviour: elsewhere it may be waiting for the archive. A running process
%% answers only when it pauses.
-spec is_at_rest(pid()) -> boolean().
is_at_rest(Pid) when node(Pid) == node() ->
    case process_info(Pid, [message_queue_len, current_function]) of
        [{_, 0}, {_, {Module, _, _}}] -> Module == gen_server orelse Module == p1_server;
        Other -> Other == undefined
    end;
is_at_rest(_) -> false.

-spec send_all(state(), #{pid() => mod_mixpam_tap_batches:batch()}) -> ok.
send_all(State, Open) -> maps:foreach(fun(From, Batch) -> send(State, From, Batch) end, Open).

%% Rows are taken when the link has room, so that they are sent as soon as they are taken. An ended
%% link takes nothing, and its rows are for no other link.
-spec send(state(), pid(), mod_mixpam_tap_batches:batch()) -> any().
send(#{store := {Table, _, _} = Store}, From, Batch) ->
    erase({mod_mixpam_tap_batches, From}),
    case mod_mixpam_tap_batches:link(Table, Batch) of
        none -> ok; % has gone already
        Link ->
            wait_until_free(Link, Store),
            case mod_mixpam_tap_batches:take(Store, Batch) of
                none -> ok;
                {_, Address, Pkt, Tos} when element(1, Pkt) == message ->
                    send_to(Link, Address, Pkt, Tos);
                {_, _, Pkt, _} -> pass(Link, Pkt)
            end
    end.

-spec send_to(pid(), binary(), stanza(), [mod_mixpam_tap_batches:address()]) -> any().
send_to(_Link, _Address, _Common, []) -> ok;
send_to(Link, _Address, Common, [{To, Id}]) -> pass(Link, with_id(xmpp:set_to(Common, To), Id));
send_to(Link, Address, Common, Tos) ->
    List = [{xmlel, <<"address">>,
             [{<<"type">>, <<"to">>}, {<<"jid">>, jid:encode(To)}
              | [{<<"id">>, Id} || Id /= <<>>]], []} || {To, Id} <- Tos],
    Addresses = {xmlel, <<"addresses">>, [{<<"xmlns">>, ?ADDRESS}], List},
    pass(Link, xmpp:set_els(xmpp:set_to(Common, to(Address)), [Addresses | xmpp:get_els(Common)])).

%% Nearly always that of the previous batch.
-spec to(binary()) -> jid:jid().
to(Address) ->
    case get({?MODULE, to}) of
        {Address, JID} -> JID;
        _ ->
            {JID, _} = parsed(Address),
            put({?MODULE, to}, {Address, JID}),
            JID
    end.

%% Messages that the link does not take in time wait here unchanged, many to one stanza, and no
%% longer than ejabberd would let them wait before the link.
-spec wait_until_free(pid(), mod_mixpam_tap_batches:store()) -> ok.
wait_until_free(Link, {Table, Bytes, _} = Store) ->
    case process_info(Link, message_queue_len) of
        {_, Length} when Length > ?CROWD ->
            case ets:info(Table, size) > ?FLOOD orelse counters:get(Bytes, 1) > ?FLOOD_BYTES of
                true -> close(Link);
                false ->
                    timer:sleep(1),
                    wait_until_free(Link, Store)
            end;
        _ -> ok
    end.

-spec close(pid()) -> ok.
close(Link) ->
    ?WARNING_MSG("mod_mixpam_tap: the component is too slow, its link is closed", []),
    Ref = erlang:monitor(process, Link),
    ejabberd_service:close(Link),
    receive {'DOWN', Ref, _, _, _} -> ok end.
