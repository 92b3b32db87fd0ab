%%% The ejabberd tap's batches (T10) without a server: what one process brings while another
%%% takes batches as fast as it can. No real server can be made to take one just then.
-module(tap_gathering).
-export([run/0]).

-define(ROWS, 200000).

run() ->
    ets:new(mixpam_link, [named_table, public, {keypos, 2}]),
    register(gatherer, self()),
    in_order(),
    interrupted(),
    without_table(),
    own_first(),
    race(),
    io:format("all of it~n"),
    halt(0).

%% What comes after a batch was taken opens the next; another text opens one, too.
in_order() ->
    {Table, _, _} = Store = store(gatherer),
    bring(Store, <<"a">>, <<"one">>),
    bring(Store, <<"b">>, <<"one">>),
    [<<"a">>, <<"b">>] = taken(Store, opened()),
    none = opened(),
    bring(Store, <<"c">>, <<"one">>),
    [<<"c">>] = taken(Store, opened()),
    bring(Store, <<"d">>, <<"one">>),
    bring(Store, <<"e">>, <<"two">>),
    [[<<"d">>], [<<"e">>]] = [taken(Store, opened()) || _ <- [first, second]],
    is_empty(Store),
    none = mod_mixpam_tap_batches:link(Table, 1).

%% Wherever in it a process is interrupted, the addresses that open a batch stay in order.
interrupted() ->
    Store = store(gatherer),
    Ids = [<<"a">>, <<"b">>, <<"c">>, <<"d">>, <<"e">>],
    Place = {self(), <<"component/x">>},
    [begin
         erlang:yield(),
         erlang:bump_reductions(Spent),
         mod_mixpam_tap_batches:open(Place, Store, self(), message(<<"a">>, <<"one">>), 200,
                                     [{jid(Id), Id} || Id <- Ids]),
         Ids = taken(Store, opened())
     end || Spent <- lists:seq(3000, 4000)],
    is_empty(Store).

%% A table that has ended is no error of who brings a message, who then sends it as T1; nor is
%% a gatherer that nobody will start again.
without_table() ->
    {Table, _, _} = Store = store(gatherer),
    ok = bring(Store, <<"a">>, <<"one">>),
    true = is_integer(opened()),
    ets:delete(Table),
    gone = bring(Store, <<"b">>, <<"one">>),
    gone = bring(Store, <<"c">>, <<"two">>),
    none = opened(),
    Other = store(nobody),
    gone = bring(Other, <<"d">>, <<"one">>),
    is_empty(Other),
    Again = setelement(3, Other, gatherer),
    ok = bring(Again, <<"e">>, <<"one">>),
    [<<"e">>] = taken(Again, opened()).

%% What is in a batch when T10 ends goes before what comes after, once, in order, with its id.
own_first() ->
    {Table, Bytes, _} = store(gatherer),
    Store = mod_mixpam_tap_batches:keep(<<"host">>, Table, Bytes),
    ets:insert(mixpam_link, {mixpam_link, {batches, <<"host">>}, self(), <<"component/x">>}),
    ets:insert(mixpam_link, {mixpam_link, <<"host">>, self(), up}),
    Told = setelement(3, Store, gatherer),
    [bring(Told, User, Text) || {User, Text} <- [{<<"a">>, <<"one">>}, {<<"b">>, <<"one">>},
                                                 {<<"c">>, <<"two">>}]],
    ets:delete(mixpam_link, {batches, <<"host">>}),
    [mod_mixpam_tap_batches:pass_on(<<"host">>, message(Id, <<"three">>), Id)
     || Id <- [<<"d">>, <<"e">>]],
    [<<"a">>, <<"b">>, <<"c">>, <<"d">>, <<"e">>] = sent(),
    is_empty(Told),
    [none, none] = [mod_mixpam_tap_batches:take(Told, opened()) || _ <- [first, second]].

sent() ->
    receive {route, Pkt} ->
        [Id] = [Id || {xmlel, <<"stanza-id">>, Attrs, []} <- xmpp:get_els(Pkt),
                      {<<"id">>, Id} <- Attrs],
        {Id, <<"host">>, <<>>} = jid:tolower(xmpp:get_to(Pkt)),
        [Id | sent()]
    after 0 -> []
    end.

%% Nothing is lost, nothing comes twice, all is in order.
race() ->
    Store = store(gatherer),
    Me = self(),
    Ids = [integer_to_binary(N) || N <- lists:seq(1, ?ROWS)],
    spawn_link(fun() -> [bring(Store, Id, <<"one">>) || Id <- Ids], Me ! done end),
    Batches = take_all(Store, none, []),
    true = length(Batches) > ?ROWS div 500, % some were taken before they were full
    Ids = lists:append(Batches),
    is_empty(Store).

take_all(Store, Last, Batches) ->
    Taken = fun() -> case Last of none -> Batches; _ -> [taken(Store, Last) | Batches] end end,
    receive
        {open, _, Batch} -> take_all(Store, Batch, Taken());
        done -> lists:reverse(Taken())
    after 0 -> take_all(Store, none, Taken())
    end.

store(Gatherer) ->
    {ets:new(?MODULE, [duplicate_bag, public, {write_concurrency, true}]), counters:new(1, []),
     Gatherer}.

is_empty({Table, Bytes, _}) ->
    0 = ets:info(Table, size),
    0 = counters:get(Bytes, 1).

bring(Store, User, Text) ->
    Link = whereis(gatherer),
    mod_mixpam_tap_batches:add({Link, <<"component/x">>}, Store, self(), message(User, Text), User).

message(User, Text) ->
    Body = {xmlel, <<"body">>, [], [{xmlcdata, Text}]},
    {message, <<"id">>, groupchat, <<>>, jid(<<"coven">>), jid(User), [], [], <<>>, [Body], #{}}.

jid(User) -> {jid, User, <<"host">>, <<>>, User, <<"host">>, <<>>}.

opened() -> receive {open, _, Batch} -> Batch after 0 -> none end.

taken(Store, Batch) ->
    {_, _, _, Addresses} = mod_mixpam_tap_batches:take(Store, Batch),
    [Id || {_, Id} <- Addresses].
