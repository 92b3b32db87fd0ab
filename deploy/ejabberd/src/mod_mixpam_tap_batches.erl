%%% Several at once: T10. This runs in the processes that bring stanzas of channels: T1, T2 and T3
%%% go through here, to the link or, if the component takes T10, into batches. A batch consists of
%%% rows of the keeper's table, which hold its whole state, so that any gatherer can send it: the
%%% one it was meant for may have ended, or been replaced.
%%%
%%%   {{open, Batch}, From, Pkt, Bytes, Link, Address}   what is common, and where it goes
%%%   {Batch, JID, Id}                                   a user's address and archive id
%%%
%%% Its row for all nodes is {mixpam_link, {batches, Host}, Link, Address}.
-module(mod_mixpam_tap_batches).

-export([set/2, forget/1, pass_on/3, pass_on/4, wait_for_room/2, keep/3, kept/1, name/1,
         left/1, link/2, take/2, with_id/2]).

-import(mod_mixpam_tap_link, [link_of/1, parsed/1, pass/2, to_link/2]).

-define(CROWD, 50). % stanzas before the link, above which presence and events wait
-define(ADDRESSES, 500).
-define(ADDRESSES_BYTES, 65536).
-define(SID, <<"urn:xmpp:sid:0">>).

-type stanza() :: mod_mixpam_tap_link:stanza().
-type batch() :: integer().
-type store() :: {Table :: ets:tid(), Bytes :: counters:counters_ref(), Gatherer :: atom()}.
-type address() :: {jid:jid(), Id :: binary()}.
-export_type([batch/0, store/0, address/0]).

%%% Where batches are kept, and where they go

%% Called by the keeper, which has the table.
-spec keep(binary(), ets:tid(), counters:counters_ref()) -> store().
keep(Host, Table, Bytes) ->
    Store = {Table, Bytes, name(Host)},
    persistent_term:put({?MODULE, Host}, Store),
    Store.

-spec kept(binary()) -> store() | none.
kept(Host) -> persistent_term:get({?MODULE, Host}, none).

%% Called by the gatherer.
-spec name(binary()) -> atom().
name(Host) -> gen_mod:get_module_proc(Host, mod_mixpam_tap_gatherer).

%% Called in the link's process. An address that is not the component's own ends T10.
-spec set(binary(), binary()) -> ok.
set(Host, Address) ->
    Component = mod_mixpam_tap_link:component(Host),
    case parsed(Address) of
        {_, {<<>>, Component, R}} when R /= <<>> ->
            mnesia:dirty_write({mixpam_link, {batches, Host}, self(), Address});
        _ -> forget(Host)
    end.

%% T1 is used from now on. Messages already in a batch go to the link of that batch.
-spec forget(binary()) -> ok.
forget(Host) -> mnesia:dirty_delete(mixpam_link, {batches, Host}).

-spec place(binary()) -> {pid(), binary()} | none.
place(Host) ->
    case ets:lookup(mixpam_link, {batches, Host}) of
        [{_, _, Link, Address}] -> {Link, Address};
        [] -> none
    end.

%%% In the process that brought a stanza

%% A process that brings presence and events faster than the link takes them waits, so that others'
%% messages need not queue behind them. The link never runs dry; no process waits much longer than N
%% ms.
-spec wait_for_room(binary(), stanza()) -> ok.
wait_for_room(Host, Pkt) -> wait_for_room(Host, Pkt, 50).

-spec wait_for_room(binary(), stanza(), non_neg_integer()) -> ok.
wait_for_room(Host, Pkt, N) when N > 0 ->
    case xmpp:get_type(Pkt) /= groupchat andalso is_link_crowded(Host) of
        true -> timer:sleep(1), wait_for_room(Host, Pkt, N - 1);
        false -> ok
    end;
wait_for_room(_Host, _Pkt, 0) -> ok.

-spec is_link_crowded(binary()) -> boolean().
is_link_crowded(Host) ->
    Pid = case {place(Host), link_of(Host)} of
              {none, {Link, _}} -> Link;
              {none, none} -> none;
              {{_, _}, _} -> gatherer(kept(Host))
          end,
    case is_pid(Pid) andalso node(Pid) == node() andalso process_info(Pid, message_queue_len) of
        {_, Length} -> Length > ?CROWD;
        _ -> false % there is none, or it has just ended
    end.

-spec gatherer(store() | none) -> pid() | undefined.
gatherer({_, _, Gatherer}) -> whereis(Gatherer);
gatherer(none) -> undefined.

%% `Id` is the archive's, or <<>>.
-spec pass_on(binary(), stanza(), binary()) -> any().
pass_on(Host, Pkt, Id) -> pass_on(Host, self(), Pkt, Id).

%% `From` is the process that brought it: this one, or one of another node. If there is no gatherer,
%% and no supervisor that would restart it, the message goes as T1.
-spec pass_on(binary(), pid(), stanza(), binary()) -> any().
pass_on(Host, From, Pkt, Id) ->
    case {place(Host), kept(Host)} of
        {{Link, _}, _} when node(Link) /= node() ->
            ejabberd_cluster:send({name(Host), node(Link)}, {gather, From, Pkt, Id});
        {{_, _} = Place, {_, _, _} = Store} ->
            case add(Place, Store, From, Pkt, Id) of
                gone -> to_link(Host, with_id(Pkt, Id));
                ok -> ok
            end;
        {_, Store} ->
            send_own_first(Host, Store, From),
            to_link(Host, with_id(Pkt, Id))
    end.

%% The user's archive gave the message this id.
-spec with_id(stanza(), binary()) -> stanza().
with_id(Pkt, <<>>) -> Pkt;
with_id(Pkt, Id) ->
    By = jid:encode(jid:remove_resource(xmpp:get_to(Pkt))),
    xmpp:set_els(Pkt, xmpp:get_els(Pkt) ++
                 [{xmlel, <<"stanza-id">>,
                   [{<<"xmlns">>, ?SID}, {<<"by">>, By}, {<<"id">>, Id}], []}]).

%% The gatherer is notified only of a message that opens a batch; the addresses and ids of the
%% others are rows of the table: waking the gatherer for each would cost most.
-spec add({pid(), binary()}, store(), pid(), stanza(), binary()) -> ok | gone.
add({Link, _} = Place, {Table, _, _} = Store, From, Pkt, Id) when element(1, Pkt) == message ->
    {U, Host, _} = jid:tolower(JID = xmpp:get_to(Pkt)),
    Common = xmpp:set_meta(xmpp:set_to(Pkt, undefined), #{}),
    Size = byte_size(U) + byte_size(Host) + byte_size(Id) + 40,
    try
        case get({?MODULE, From}) of
            {Batch, Link, Common, N, Length}
              when N < ?ADDRESSES, Length + Size < ?ADDRESSES_BYTES ->
                put({?MODULE, From}, {Batch, Link, Common, N + 1, Length + Size}),
                ets:insert(Table, {Batch, JID, Id}),
                %% A message too late for a batch that was closed meanwhile opens the next.
                case ets:member(Table, {open, Batch}) orelse addresses(Table, Batch) of
                    [_ | _] = Late -> open(Place, Store, From, Common, Length + Size, Late);
                    _ -> ok
                end;
            _ -> open(Place, Store, From, Common, Size, [{JID, Id}])
        end
    catch error:badarg -> erase({?MODULE, From}), gone % The table has just ended.
    end;
add(Place, Store, From, Pkt, _Id) ->
    erase({?MODULE, From}),
    try open_row(Place, Store, From, Pkt, [], pass) of gone -> gone; _ -> ok
    catch error:badarg -> gone
    end.

-spec open({pid(), binary()}, store(), pid(), stanza(), pos_integer(), [address()]) -> ok | gone.
open({Link, _} = Place, Store, From, Common, Length, JIDs) ->
    case open_row(Place, Store, From, Common, JIDs, open) of
        gone -> gone;
        Batch -> put({?MODULE, From}, {Batch, Link, Common, length(JIDs), Length}), ok
    end.

%% Batches are ordered by their numbers.
-spec open_row({pid(), binary()}, store(), pid(), stanza(), [address()], open | pass) ->
          batch() | gone.
open_row({Link, Address}, {Table, Bytes, Gatherer} = Store, From, Pkt, JIDs, Word) ->
    Batch = erlang:unique_integer([monotonic]),
    Size = erlang:external_size(Pkt),
    %% One by one: a process that is interrupted inserts a list in reverse order (OTP 25).
    lists:foreach(fun({JID, Id}) -> ets:insert(Table, {Batch, JID, Id}) end, JIDs),
    ets:insert(Table, {{open, Batch}, From, Pkt, Size, Link, Address}),
    counters:add(Bytes, 1, Size),
    case tell(Gatherer, {Word, From, Batch}) of
        ok -> Batch;
        gone ->
            _ = take(Store, Batch),
            erase({?MODULE, From}),
            gone
    end.

%% A gatherer that is just starting takes the name first, and then looks for batches: it gets either
%% this message or the rows, which are already there.
-spec tell(atom(), {open | pass, pid(), batch()}) -> ok | gone.
tell(Gatherer, What) ->
    case whereis(Gatherer) of
        undefined ->
            case whereis(mod_mixpam_tap_sup) of
                undefined -> gone;
                _ -> ok
            end;
        Pid -> Pid ! What, ok
    end.

%% When T10 ends, earlier messages of this process may be in a batch, and must not be overtaken.
-spec send_own_first(binary(), store() | none, pid()) -> ok.
send_own_first(Host, Store, From) ->
    case {erase({?MODULE, From}), Store, link_of(Host)} of
        {{_, Link, _, _, _}, {Table, _, _}, {Link, _}} ->
            Own = try [Batch || {Batch, Bringer} <- left(Table), Bringer == From]
                  catch error:badarg -> []
                  end,
            lists:foreach(fun(Batch) -> send_own(Link, take(Store, Batch)) end, Own);
        _ -> ok
    end.

-spec send_own(pid(), {pid(), binary(), stanza(), [address()]} | none) -> ok.
send_own(Link, {Link, _, Pkt, Tos}) when element(1, Pkt) == message ->
    lists:foreach(fun({To, Id}) -> pass(Link, with_id(xmpp:set_to(Pkt, To), Id)) end, Tos);
send_own(Link, {Link, _, Pkt, []}) -> pass(Link, Pkt), ok;
send_own(_, _) -> ok.

%%% Rows

%% In the order in which they were opened.
-spec left(ets:tid()) -> [{batch(), pid()}].
left(Table) ->
    lists:sort(ets:select(Table, [{{{open, '$1'}, '$2', '_', '_', '_', '_'}, [],
                                   [{{'$1', '$2'}}]}])).

-spec link(ets:tid(), batch()) -> pid() | none.
link(Table, Batch) ->
    case ets:match(Table, {{open, Batch}, '_', '_', '_', '$1', '_'}) of
        [[Link]] -> Link;
        [] -> none
    end.

%% Each batch is taken once, by the gatherer or by the process that brought it.
-spec take(store(), batch()) -> {pid(), binary(), stanza(), [address()]} | none.
take({Table, Bytes, _}, Batch) ->
    case ets:take(Table, {open, Batch}) of
        [{_, _, Pkt, Size, Link, Address}] ->
            counters:sub(Bytes, 1, Size),
            {Link, Address, Pkt, addresses(Table, Batch)};
        [] -> none
    end.

%% And so is each address.
-spec addresses(ets:tid(), batch()) -> [address()].
addresses(Table, Batch) -> [{JID, Id} || {_, JID, Id} <- ets:take(Table, Batch)].
