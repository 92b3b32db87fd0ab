%%% Several at once: T10. A process beside the link, through which T1, T2 and T3 go if the
%%% component takes T10. What is for it are rows of a table that outlives it: when it is ended
%%% by whatever, the one that is started in its place goes on with them.
%%%
%%% Its row is {mixpam_link, {gatherer, Host}, Pid, {Address, Table, Bytes, Link}}.
-module(mod_mixpam_tap_gatherer).

-export([start_link/1, init/1, gather/3]).
-export([set/2, forget/1, exchange/1, pass_on/3, wait_for_room/2, add/4, close/2,
         with_id/2]).

-import(mod_mixpam_tap_link, [link_of/1, parsed/1, pass/2, to_link/2]).

-define(CROWD, 50). % stanzas before the link, above which presence and events wait
-define(FLOOD, 100000). % messages before a link that takes none, above which it is closed
-define(FLOOD_BYTES, 134217728). % the same, of what is in them
-define(PATIENCE, 5). % ms that a message waits for others at most
-define(ADDRESSES, 500).
-define(ADDRESSES_BYTES, 65536).
-define(ADDRESS, <<"http://jabber.org/protocol/address">>).
-define(SID, <<"urn:xmpp:sid:0">>).

%%% In the processes that bring stanzas

gatherer_of(Host) ->
    case ets:lookup(mixpam_link, {gatherer, Host}) of
        [{_, _, Pid, {_, Table, Bytes, _}}] -> {Pid, Table, Bytes};
        _ -> none
    end.

%% This runs in the process that the stanza came by. One that brings presence and
%% events faster than the link takes them waits, so that others' messages need not
%% stand behind them. The link never runs dry; nobody waits longer than N ms or so.
wait_for_room(Host, Pkt) -> wait_for_room(Host, Pkt, 50).

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
              {{Gatherer, _, _}, _} -> Gatherer
          end,
    case is_pid(Pid) andalso node(Pid) == node() andalso process_info(Pid, message_queue_len) of
        {_, Length} -> Length > ?CROWD;
        _ -> false % there is none, or it has just ended
    end.

%% `Id` is the archive's, or <<>>. If there is no gatherer, nor anybody who would start it
%% again, it goes as T1.
pass_on(Host, Pkt, Id) ->
    case gatherer_of(Host) of
        none -> to_link(Host, with_id(Pkt, Id));
        {Pid, Table, Bytes} when node(Pid) == node() ->
            case add({Host, Table, Bytes}, self(), Pkt, Id) of
                gone -> to_link(Host, with_id(Pkt, Id));
                ok -> ok
            end;
        {Pid, _, _} -> ejabberd_cluster:send(Pid, {gather, self(), Pkt, Id})
    end.

%% The user's archive gave the message this id.
with_id(Pkt, <<>>) -> Pkt;
with_id(Pkt, Id) ->
    By = jid:encode(jid:remove_resource(xmpp:get_to(Pkt))),
    xmpp:set_els(Pkt, xmpp:get_els(Pkt) ++
                 [{xmlel, <<"stanza-id">>,
                   [{<<"xmlns">>, ?SID}, {<<"by">>, By}, {<<"id">>, Id}], []}]).

%% Runs in the process that brings the stanzas, which may be one for many channels. Only
%% what opens a batch is told to the gatherer; the others' addresses and ids are rows of the
%% table: to wake the gatherer for each is what would cost most.
add({_, Table, _} = To, From, Pkt, Id) when element(1, Pkt) == message ->
    {U, Host, _} = jid:tolower(JID = xmpp:get_to(Pkt)),
    Common = xmpp:set_meta(xmpp:set_to(Pkt, undefined), #{}),
    Size = byte_size(U) + byte_size(Host) + byte_size(Id) + 40,
    try
        case get({?MODULE, From}) of
            {Batch, Common, N, Length} when N < ?ADDRESSES, Length + Size < ?ADDRESSES_BYTES ->
                put({?MODULE, From}, {Batch, Common, N + 1, Length + Size}),
                ets:insert(Table, {Batch, JID, Id}),
                %% What came too late for a batch that was closed meanwhile opens the next.
                case ets:member(Table, {open, Batch}) orelse close(Table, Batch) of
                    [_ | _] = Late -> open(To, From, Common, Length + Size, Late);
                    _ -> ok
                end;
            _ -> open(To, From, Common, Size, [{JID, Id}])
        end
    catch error:badarg -> erase({?MODULE, From}), gone % The table has just ended.
    end;
add(To, From, Pkt, _Id) ->
    erase({?MODULE, From}),
    try open_row(To, From, Pkt, [], pass) of gone -> gone; _ -> ok
    catch error:badarg -> gone
    end.

open(To, From, Common, Length, JIDs) ->
    case open_row(To, From, Common, JIDs, open) of
        gone -> gone;
        Batch -> put({?MODULE, From}, {Batch, Common, length(JIDs), Length}), ok
    end.

%% A batch's number tells which was first. Whose row it is now is asked once the batch is
%% there: a gatherer that was started meanwhile has written its own row before it looks.
open_row({Host, Table, Bytes}, From, Pkt, JIDs, Word) ->
    Batch = erlang:unique_integer([monotonic]),
    Size = erlang:external_size(Pkt),
    ets:insert(Table, [{{open, Batch}, From, Pkt, Size}
                       | [{Batch, JID, Id} || {JID, Id} <- JIDs]]),
    counters:add(Bytes, 1, Size),
    case gatherer_of(Host) of
        {Gatherer, Table, _} -> tell(Gatherer, {Word, From, Batch}, Table);
        _ -> close(Table, Batch), gone
    end.

%% Whether another process is alive may only be known when that runs: both wait for each other.
tell(Gatherer, {_, From, Batch} = What, Table) ->
    case whereis(mod_mixpam_tap_sup) /= undefined orelse is_process_alive(Gatherer) of
        true -> Gatherer ! What, Batch;
        false -> close(Table, Batch), erase({?MODULE, From}), gone
    end.

%% Each row is taken once, by the gatherer or by the process that brought it.
close(Table, Batch) ->
    ets:delete(Table, {open, Batch}),
    [{JID, Id} || {_, JID, Id} <- ets:take(Table, Batch)].

%%% In the link's process

set(Host, Address) ->
    Component = mod_mixpam_tap_link:component(Host),
    Link = self(),
    case {ets:lookup(mixpam_link, {gatherer, Host}), parsed(Address)} of
        {[{_, _, _, {Address, _, _, Link}}], _} -> ok;
        {_, {JID, {<<>>, Component, R}}} when R /= <<>> ->
            forget(Host),
            case whereis(name(Host)) of
                undefined -> ok; % T1, then
                Gatherer -> call(Gatherer, {set, Link, Address, JID})
            end;
        _ -> forget(Host)
    end.

forget(Host) ->
    case ets:lookup(mixpam_link, {gatherer, Host}) of
        [{_, _, Gatherer, _}] ->
            mnesia:dirty_delete(mixpam_link, {gatherer, Host}),
            _ = is_pid(Gatherer) andalso ejabberd_cluster:send(Gatherer, forget);
        [] -> ok
    end.

call(Gatherer, What) ->
    Ref = erlang:monitor(process, Gatherer),
    Gatherer ! {What, self(), Ref},
    receive
        {Ref, done} -> erlang:demonitor(Ref, [flush]);
        {'DOWN', Ref, _, _, _} -> ok
    end.

%% One that runs may be in the code of the version before.
exchange(Host) ->
    case whereis(name(Host)) of
        undefined -> ok;
        Gatherer -> Gatherer ! exchange, ok
    end.

%%% The gatherer

name(Host) -> gen_mod:get_module_proc(Host, ?MODULE).

start_link(Host) -> proc_lib:start_link(?MODULE, init, [Host]).

%% Started again, it has the row of the one before, and the batches that were for that.
init(Host) ->
    register(name(Host), self()),
    proc_lib:init_ack({ok, self()}),
    case ets:lookup(mixpam_link, {gatherer, Host}) of
        [{_, _, Before, {Address, Table, Bytes, Link}}] when node(Before) == node() ->
            {JID, _} = parsed(Address),
            case ets:info(Table, size) of
                undefined ->
                    logger:error("mod_mixpam_tap: the keeper of ~ts has ended, and what waited "
                                 "with it: messages are in the archive only", [Host]),
                    gather(begin_for(Host, Link, Address, JID), #{}, 0);
                _ ->
                    Where = {Host, Link, JID, Table, Bytes},
                    take_over(Where, Address),
                    gather(Where, #{}, 0)
            end;
        _ -> idle(Host, none)
    end.

begin_for(Host, Link, Address, JID) ->
    {Table, Bytes} = mod_mixpam_tap_keeper:table(Host),
    Where = {Host, Link, JID, Table, Bytes},
    own(Where, Address),
    Where.

own({Host, Link, _, Table, Bytes}, Address) ->
    erlang:monitor(process, Link),
    mnesia:dirty_write({mixpam_link, {gatherer, Host}, self(), {Address, Table, Bytes, Link}}).

take_over({Host, _, _, Table, _} = Where, Address) ->
    own(Where, Address),
    Left = left(Table),
    logger:warning("mod_mixpam_tap: the gatherer of ~ts was started again, and has ~B batches",
                   [Host, length(Left)]),
    [push(Where, From, Batch) || {Batch, From} <- Left].

left(Table) ->
    lists:sort(ets:select(Table, [{{{open, '$1'}, '$2', '_', '_'}, [], [{{'$1', '$2'}}]}])).

%% T1 is used. What was opened just before is still sent, if it is for a link that is there.
idle(Host, Before) ->
    receive
        {{set, Link, Address, JID}, Asks, Ref} ->
            _ = Before == none orelse finish(Before, Link),
            Where = begin_for(Host, Link, Address, JID),
            Asks ! {Ref, done},
            gather(Where, #{}, 0);
        {Word, From, Batch} when Before /= none, Word == open orelse Word == pass ->
            push(Before, From, Batch),
            idle(Host, Before);
        exchange -> exit(normal); % supervised: is started again, in the new code
        {'DOWN', _, process, Link, _} when Before /= none, Link == element(2, Before) ->
            finish(Before, none),
            idle(Host, none);
        _ -> idle(Host, Before)
    end.

%% To nobody but the link it was for.
finish({_, Link, _, Table, Bytes} = Where, Next) ->
    _ = Link == Next andalso [push(Where, From, Batch) || {Batch, From} <- left(Table)],
    ets:delete_all_objects(Table),
    counters:put(Bytes, 1, 0).

%% A batch goes when the process it comes by is at rest, or at `Until`; that is looked at
%% when the batch is opened, so that one alone need not wait, and every millisecond. There
%% is one for each such process, because what comes by another is of another channel.
gather({Host, Link, _, Table, Bytes} = Where, Open, Until) ->
    receive
        {open, From, Batch} ->
            flush(Where, maps:with([From], Open)),
            Open1 = Open#{From => Batch},
            case map_size(Open) of
                0 ->
                    self() ! look,
                    ?MODULE:gather(Where, Open1, erlang:monotonic_time(millisecond) + ?PATIENCE);
                _ -> ?MODULE:gather(Where, Open1, Until)
            end;
        {pass, From, Batch} ->
            flush(Where, maps:with([From], Open)),
            push(Where, From, Batch),
            ?MODULE:gather(Where, maps:remove(From, Open), Until);
        {gather, From, Pkt, Id} -> % from another node
            _ = add({Host, Table, Bytes}, From, Pkt, Id),
            ?MODULE:gather(Where, Open, Until);
        look ->
            Late = erlang:monotonic_time(millisecond) >= Until,
            case Late orelse lists:all(fun is_at_rest/1, maps:keys(Open)) of
                true ->
                    flush(Where, Open),
                    ?MODULE:gather(Where, #{}, 0);
                false ->
                    erlang:send_after(1, self(), look),
                    ?MODULE:gather(Where, Open, Until)
            end;
        forget ->
            flush(Where, Open),
            idle(Host, Where);
        {{set, _, _, _}, _, _} = Set -> % of a second link, before the first was seen to end
            self() ! Set,
            flush(Where, Open),
            idle(Host, Where);
        exchange ->
            exit(normal);
        {'DOWN', _, process, Link, _} ->
            finish(Where, none),
            idle(Host, none);
        _ ->
            ?MODULE:gather(Where, Open, Until)
    end.

%% Back in the loop of its behaviour, with nothing to do: elsewhere it may wait for the
%% archive. The answer of a process that runs takes until it pauses.
is_at_rest(Pid) when node(Pid) == node() ->
    case process_info(Pid, [message_queue_len, current_function]) of
        [{_, 0}, {_, {Module, _, _}}] -> Module == gen_server orelse Module == p1_server;
        Other -> Other == undefined
    end;
is_at_rest(_) -> false.

flush(Where, Open) ->
    maps:foreach(fun(From, Batch) -> push(Where, From, Batch) end, Open).

%% Rows are taken when the link has room, so that they are sent as soon as they are taken.
push({_, Link, Address, Table, Bytes} = Where, From, Batch) ->
    erase({?MODULE, From}),
    wait_until_free(Where),
    case ets:lookup(Table, {open, Batch}) of
        [{_, _, Pkt, Size}] ->
            counters:sub(Bytes, 1, Size),
            Tos = close(Table, Batch),
            case element(1, Pkt) of
                message -> send_to(Link, Address, Pkt, Tos);
                _ -> pass(Link, Pkt)
            end;
        [] -> ok % has gone already
    end.

send_to(_Link, _Address, _Common, []) -> ok;
send_to(Link, _Address, Common, [{To, Id}]) -> pass(Link, with_id(xmpp:set_to(Common, To), Id));
send_to(Link, Address, Common, Tos) ->
    List = [{xmlel, <<"address">>,
             [{<<"type">>, <<"to">>}, {<<"jid">>, jid:encode(To)}
              | [{<<"id">>, Id} || Id /= <<>>]], []} || {To, Id} <- Tos],
    Addresses = {xmlel, <<"addresses">>, [{<<"xmlns">>, ?ADDRESS}], List},
    pass(Link, xmpp:set_els(xmpp:set_to(Common, Address), [Addresses | xmpp:get_els(Common)])).

%% What the link does not take in time waits here as it came, many to one stanza, and no
%% longer than ejabberd would let it wait before the link.
wait_until_free({_, Link, _, Table, Bytes} = Where) ->
    case process_info(Link, message_queue_len) of
        {_, Length} when Length > ?CROWD ->
            case ets:info(Table, size) > ?FLOOD orelse counters:get(Bytes, 1) > ?FLOOD_BYTES of
                true ->
                    logger:warning("mod_mixpam_tap: the component is too slow, its link is closed"),
                    ejabberd_service:close(Link),
                    receive {'DOWN', _, process, Link, _} = Down -> self() ! Down, ok end;
                false ->
                    timer:sleep(1),
                    wait_until_free(Where)
            end;
        _ -> ok
    end.
