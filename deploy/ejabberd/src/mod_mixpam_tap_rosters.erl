%%% Rosters and accounts: C3 and its pages, T8, and who is a member of which channel.
%%%
%%% C3 waits for the database, and everybody waits for the link's process. So a few processes of
%%% this module do it, always the same one for a user, in order.
-module(mod_mixpam_tap_rosters).
-behaviour(gen_server).

-export([start/0, workers/0, start_link/1, from_component/5, in_roster/2, is_member/3,
         channels/2]).
-export([init/1, handle_call/3, handle_cast/2]).
-export([roster_process_item/2, before_subscription/1, before_subscription/2,
         roster_in_subscription/2, roster_out_subscription/1, remove_user/2]).

-import(mod_mixpam_tap_link, [attr/2, bare/1, component/1, event/3, has_room/1, is_mix/2,
                              link_of/1, lower/1, send/2, stanza/3, to_link/2]).

-include("xmpp.hrl").
-include("mod_roster.hrl").
-include("logger.hrl").

-define(ROSTER, <<"jabber:iq:roster">>).
-define(TAP, <<"mixpam:tap:1">>).
-define(PAGE, 500). % items
-define(PAGE_BYTES, 65536).
-define(WORKERS, 4).
-define(WAITING, 10000). % requests that may wait for one of them, of some 2 kB

-type xml() :: mod_mixpam_tap_link:xml().

%% A row of {mixpam_member, {Host, User, Channel}, true} is a membership; one with `known` in the
%% channel's place means that all of this user's are there.
-spec start() -> ok.
start() ->
    _ = ejabberd_mnesia:create(?MODULE, mixpam_member,
          [{disc_copies, [node()]}, {type, ordered_set}, {attributes, [key, value]}]),
    ok.

%%% C3

-spec workers() -> [atom()].
workers() -> [list_to_atom(atom_to_list(?MODULE) ++ "_" ++ integer_to_list(N))
              || N <- lists:seq(1, ?WORKERS)].

-spec start_link(atom()) -> {ok, pid()} | {error, any()}.
start_link(Worker) -> gen_server:start_link({local, Worker}, ?MODULE, [], []).

-spec init([]) -> {ok, none}.
init([]) -> {ok, none}.

-spec handle_call(any(), any(), none) -> {reply, ok, none}.
handle_call(_, _From, State) -> {reply, ok, State}.

%% A failing request does not end those that wait behind it, and still gets an answer.
-spec handle_cast({pid(), get | set, binary(), binary(), xml(), stanza()}, none) -> {noreply, none}.
handle_cast({Link, Type, U, Host, El, IQ}, State) ->
    try answer(Link, Type, U, Host, El, IQ)
    catch Class:Reason:Stack ->
        ?ERROR_MSG("mod_mixpam_tap: a roster of ~ts@~ts cannot be read or set: ~p:~p ~p",
                   [U, Host, Class, Reason, Stack]),
        send(Link, xmpp:make_error(IQ, xmpp:err_internal_server_error()))
    end,
    {noreply, State}.

%% Runs in the link's process.
-spec from_component(get | set, binary(), binary(), xml(), stanza()) -> done.
from_component(Type, U, Host, El, IQ) ->
    Worker = lists:nth(erlang:phash2({U, Host}, ?WORKERS) + 1, workers()),
    case waiting(whereis(Worker)) of
        N when N < ?WAITING -> gen_server:cast(Worker, {self(), Type, U, Host, El, IQ});
        _ -> send(self(), xmpp:make_error(IQ, xmpp:err_resource_constraint()))
    end,
    done.

-spec waiting(pid() | undefined) -> non_neg_integer() | none.
waiting(undefined) -> none;
waiting(Pid) ->
    case process_info(Pid, message_queue_len) of
        {_, N} -> N;
        undefined -> none
    end.

-spec answer(pid(), get | set, binary(), binary(), xml(), stanza()) -> any().
answer(Link, Type, U, Host, {xmlel, _, _, Els} = El, IQ) ->
    case ejabberd_auth:user_exists(U, Host) of
        false ->
            Text = <<"No such account">>,
            send(Link, xmpp:make_error(IQ, xmpp:err_item_not_found(Text, xmpp:get_lang(IQ))));
        true when Type == get ->
            Items = ejabberd_hooks:run_fold(roster_get, Host, [], [{U, Host}]),
            Answer = case [Attrs || {xmlel, <<"page">>, Attrs, _} <- Els,
                                    attr(<<"xmlns">>, Attrs) == ?TAP] of
                         [] -> [xmpp:encode(Item) || Item <- Items];
                         [Attrs | _] -> page(Items, attr(<<"after">>, Attrs))
                     end,
            send(Link, xmpp:set_els(xmpp:make_iq_result(IQ),
                                    [{xmlel, <<"query">>, [{<<"xmlns">>, ?ROSTER}], Answer}]));
        true ->
            Answer = set(U, Host, El, IQ),
            %% Every session has passed its push on before the answer is sent.
            Sessions = [{U, Host, R} || R <- ejabberd_sm:get_user_resources(U, Host)],
            spawn(fun() -> mod_mixpam_tap_link:barrier(Sessions, sync), send(Link, Answer) end)
    end.

-spec page([#roster_item{}], binary()) -> [xml()].
page(Items, After) ->
    Behind = lists:keysort(1, [{Text, Item} || Item <- Items,
                                               Text <- [jid:encode(Item#roster_item.jid)],
                                               Text > After]),
    page(Behind, ?PAGE, ?PAGE_BYTES, []).

-spec page([{binary(), #roster_item{}}], non_neg_integer(), integer(), [xml()]) -> [xml()].
page([{_, Item} | Rest] = Left, N, Bytes, Page) ->
    {xmlel, Name, Attrs, _} = xmpp:encode(Item),
    El = {xmlel, Name, [A || {Key, _} = A <- Attrs,
                             lists:member(Key, [<<"jid">>, <<"subscription">>, <<"ask">>])], []},
    case Bytes - byte_size(fxml:element_to_binary(El)) of
        Room when N > 0, Room >= 0 -> page(Rest, N - 1, Room, [El | Page]);
        _ -> lists:reverse(Page, [end_of_page(Left)])
    end;
page([], _, _, Page) -> lists:reverse(Page, [end_of_page([])]).

-spec end_of_page(list()) -> xml().
end_of_page(Left) ->
    {xmlel, <<"page">>, [{<<"xmlns">>, ?TAP} | [{<<"more">>, <<"true">>} || Left /= []]], []}.

-spec set(binary(), binary(), xml(), stanza()) -> stanza().
set(U, Host, {xmlel, _, _, Els}, IQ) ->
    try [Item] = [xmpp:decode(E#xmlel{attrs = [{<<"xmlns">>, ?ROSTER} | A]}, ?ROSTER, [])
                  || #xmlel{name = <<"item">>, attrs = A} = E <- Els],
         set_and_remember(U, Host, Item) of
        ok -> xmpp:make_iq_result(IQ);
        {error, _} -> xmpp:make_error(IQ, xmpp:err_internal_server_error())
    catch _:_ -> xmpp:make_error(IQ, xmpp:err_bad_request())
    end.

-spec set_and_remember(binary(), binary(), #roster_item{}) -> ok | {error, any()}.
set_and_remember(U, Host, #roster_item{jid = JID, subscription = Subscription} = Item) ->
    Channel = bare(JID),
    remember_all(U, Host),
    case Subscription of
        remove ->
            forget(U, Host, Channel),
            set(U, Host, Item);
        _ ->
            Before = is_member(U, Host, Channel),
            remember(U, Host, Channel),
            case set(U, Host, Item) of
                ok -> ok;
                Error -> _ = Before orelse forget(U, Host, Channel), Error
            end
    end.

%% `ask`, and for a removal the subscription (or the channel would be sent an `unsubscribed`), is
%% cleared first, without a push.
-spec set(binary(), binary(), #roster_item{}) -> ok | {error, any()}.
set(U, Host, #roster_item{jid = JID, subscription = Subscription} = Item) ->
    Remove = Subscription == remove,
    case roster_item(U, Host, bare(JID)) of
        none when Remove -> ok;
        none -> set_item(U, Host, Item);
        #roster{name = Name, groups = Groups, subscription = Before} = Old ->
            New = Old#roster{ask = none,
                             subscription = case Remove of true -> none; false -> Before end},
            _ = New == Old orelse mod_roster:set_roster(New),
            set_item(U, Host, Item#roster_item{name = Name, groups = Groups})
    end.

-spec set_item(binary(), binary(), #roster_item{}) -> ok | {error, any()}.
set_item(U, Host, Item) ->
    mod_roster:set_item_and_notify_clients(jid:make(U, Host), Item, true).

-spec roster_item(binary(), binary(), jid:ljid()) -> #roster{} | none.
roster_item(U, Host, LPeer) ->
    case [R || #roster{jid = LJID} = R <- roster(U, Host), LJID == LPeer] of
        [Record | _] -> Record;
        [] -> none
    end.

%% An item with `ask` in and subscription none is a request, and not in the roster.
-spec roster(binary(), binary()) -> [#roster{}].
roster(U, Host) ->
    [R || #roster{subscription = Subscription, ask = Ask} = R <- mod_roster:get_roster(U, Host),
          not (Subscription == none andalso Ask == in)].

%% ejabberd caches the answer to the first question, which settles most cases.
-spec in_roster(jid:ljid(), jid:ljid()) -> boolean().
in_roster({U, Host, _}, LPeer) ->
    case ejabberd_hooks:run_fold(roster_get_jid_info, Host, {none, none, []},
                                 [U, Host, jid:make(LPeer)]) of
        {none, _, _} -> roster_item(U, Host, LPeer) /= none;
        _ -> true
    end.

%%% Members

-spec is_member(binary(), binary(), jid:ljid()) -> boolean().
is_member(U, Host, {CU, CS, _} = Channel) ->
    ets:member(mixpam_member, {Host, U, {CU, CS}})
        orelse not ets:member(mixpam_member, {Host, U, known})
               andalso in_roster({U, Host, <<>>}, Channel).

-spec channels(binary(), binary()) -> [jid:ljid()].
channels(U, Host) ->
    case ets:member(mixpam_member, {Host, U, known}) of
        true -> [{CU, CS, <<>>}
                 || [{CU, CS}] <- ets:match(mixpam_member,
                                            {mixpam_member, {Host, U, '$1'}, true})];
        false -> [{CU, CS, <<>>} || #roster{jid = {CU, CS, _}} <- roster(U, Host), is_mix(Host, CS)]
    end.

-spec remember(binary(), binary(), jid:ljid()) -> ok.
remember(U, Host, {CU, CS, _}) -> mnesia:dirty_write({mixpam_member, {Host, U, {CU, CS}}, true}).

-spec forget(binary(), binary(), jid:ljid()) -> ok.
forget(U, Host, {CU, CS, _}) -> mnesia:dirty_delete(mixpam_member, {Host, U, {CU, CS}}).

%% Before a change: for a user who is not known yet, the channels in the roster now. One session
%% does so at a time, or a channel removed meanwhile would come back.
-spec remember_all(binary(), binary()) -> any().
remember_all(U, Host) ->
    ets:member(mixpam_member, {Host, U, known}) orelse
        mnesia:transaction(fun() ->
            case mnesia:read(mixpam_member, {Host, U, known}, write) of
                [] ->
                    [mnesia:write({mixpam_member, {Host, U, {CU, CS}}, true})
                     || #roster{jid = {CU, CS, _}} <- roster(U, Host), is_mix(Host, CS)],
                    mnesia:write({mixpam_member, {Host, U, known}, true});
                _ -> ok
            end
        end).

%%% Changes by anyone: T8, T7

%% Runs within the roster's transaction, the only place that every change of an item passes, and
%% before it is written: the component may hear of a change that then fails, but misses none.
-spec roster_process_item(Acc, binary()) -> Acc.
roster_process_item(#roster{us = {U, _}, jid = {_, Domain, _} = Channel} = Record, Host) ->
    case is_mix(Host, Domain) of
        true ->
            remember_all(U, Host),
            to_link(Host, item_changed(Record));
        false -> ok
    end,
    _ = Record#roster.subscription == remove andalso forget(U, Host, Channel),
    Record;
roster_process_item(Acc, _Host) -> Acc.

%% A subscription stanza changes the item in another way.
-spec before_subscription(Acc, stanza()) -> Acc.
before_subscription(Acc, Pkt) ->
    before(xmpp:get_to(Pkt), xmpp:get_from(Pkt)),
    Acc.

-spec before_subscription(stanza()) -> any().
before_subscription(Pkt) -> before(xmpp:get_from(Pkt), xmpp:get_to(Pkt)).

-spec before(jid:jid(), jid:jid()) -> any().
before(User, Peer) ->
    {U, Host, _} = lower(User),
    {_, Domain, _} = lower(Peer),
    is_mix(Host, Domain) andalso remember_all(U, Host).

-spec roster_in_subscription(Acc, stanza()) -> Acc.
roster_in_subscription(Changed, Pkt) ->
    _ = Changed == true andalso subscription(xmpp:get_to(Pkt), xmpp:get_from(Pkt)),
    Changed.

-spec roster_out_subscription(stanza()) -> any().
roster_out_subscription(Pkt) -> subscription(xmpp:get_from(Pkt), xmpp:get_to(Pkt)).

-spec subscription(jid:jid(), jid:jid()) -> any().
subscription(User, Peer) ->
    {U, Host, _} = lower(User),
    {_, Domain, _} = LPeer = jid:remove_resource(lower(Peer)),
    case is_mix(Host, Domain) andalso roster_item(U, Host, LPeer) of
        #roster{} = Record -> to_link(Host, item_changed(Record));
        none -> forget(U, Host, LPeer);
        false -> none
    end.

-spec item_changed(#roster{}) -> stanza().
item_changed(#roster{us = {U, Host}, jid = LJID, name = Given, subscription = Subscription,
                     ask = Asked, groups = Groups}) ->
    Short = case link_of(Host) of {Link, _} -> not has_room(Link); none -> true end,
    Name = [{<<"name">>, Given} || not Short, Given /= <<>>],
    Ask = [{<<"ask">>, <<"subscribe">>} || lists:member(Asked, [subscribe, out, both])],
    Item = {xmlel, <<"item">>,
            [{<<"jid">>, jid:encode(jid:make(LJID))},
             {<<"subscription">>, atom_to_binary(Subscription, utf8)}] ++ Name ++ Ask,
            [{xmlel, <<"group">>, [], [{xmlcdata, G}]} || not Short, G <- Groups]},
    stanza(<<"iq">>, [{<<"from">>, jid:encode(jid:make(U, Host))}, {<<"to">>, component(Host)},
                      {<<"type">>, <<"set">>}, {<<"id">>, p1_rand:get_string()}],
           {xmlel, <<"query">>, [{<<"xmlns">>, ?ROSTER}], [Item]}).

-spec remove_user(binary(), binary()) -> any().
remove_user(User, Server) ->
    {U, Host, _} = jid:tolower(JID = jid:make(User, Server)),
    [mnesia:dirty_delete(mixpam_member, Key)
     || Key <- ets:select(mixpam_member, [{{'_', {Host, U, '_'}, '_'}, [], [{element, 2, '$_'}]}])],
    to_link(Host, event(Host, <<"user-removed">>, [{<<"jid">>, jid:encode(JID)}])).
