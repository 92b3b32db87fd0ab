%%% The ejabberd tap's batches (T10) without a server: what one process brings while another
%%% closes batches as fast as it can. No real server can be made to close one just then.
-module(tap_gathering).
-export([run/0]).

-define(ROWS, 200000).

run() ->
    ets:new(mixpam_link, [named_table, public, {keypos, 2}]),
    in_order(),
    without_table(),
    race(),
    io:format("all of it~n"),
    halt(0).

%% What comes after a batch was closed opens the next; another text opens one, too.
in_order() ->
    Table = table(),
    bring(Table, self(), <<"a">>, <<"one">>),
    bring(Table, self(), <<"b">>, <<"one">>),
    [<<"a">>, <<"b">>] = closed(Table, opened()),
    none = opened(),
    bring(Table, self(), <<"c">>, <<"one">>),
    [<<"c">>] = closed(Table, opened()),
    bring(Table, self(), <<"d">>, <<"one">>),
    bring(Table, self(), <<"e">>, <<"two">>),
    [[<<"d">>], [<<"e">>]] = [closed(Table, opened()) || _ <- [first, second]],
    0 = ets:info(Table, size).

%% A table that has ended is no error of who brings a message, who then sends it as T1; nor is
%% a gatherer that nobody will start again.
without_table() ->
    Table = table(),
    ok = bring(Table, self(), <<"a">>, <<"one">>),
    true = is_integer(opened()),
    ets:delete(Table),
    gone = bring(Table, self(), <<"b">>, <<"one">>),
    gone = bring(Table, self(), <<"c">>, <<"two">>),
    none = opened(),
    Other = table(),
    Dead = spawn(fun() -> ok end),
    monitor(process, Dead),
    receive {'DOWN', _, process, Dead, _} -> ok end,
    gone = bring(Other, Dead, <<"d">>, <<"one">>),
    0 = ets:info(Other, size),
    ok = bring(Other, self(), <<"e">>, <<"one">>).

%% Nothing is lost, nothing comes twice, all is in order.
race() ->
    Table = table(),
    Me = self(),
    Ids = [integer_to_binary(N) || N <- lists:seq(1, ?ROWS)],
    spawn_link(fun() -> [bring(Table, Me, Id, <<"one">>) || Id <- Ids], Me ! done end),
    Batches = close_all(Table, none, []),
    true = length(Batches) > ?ROWS div 500, % some were closed before they were full
    Ids = lists:append(Batches),
    0 = ets:info(Table, size).

close_all(Table, Last, Batches) ->
    Closed = fun() -> case Last of none -> Batches; _ -> [closed(Table, Last) | Batches] end end,
    receive
        {open, _, Batch} -> close_all(Table, Batch, Closed());
        done -> lists:reverse(Closed())
    after 0 -> close_all(Table, none, Closed())
    end.

table() -> ets:new(?MODULE, [duplicate_bag, public, {write_concurrency, true}]).

bring(Table, Gatherer, User, Text) ->
    Bytes = case get(bytes) of undefined -> counters:new(1, []); Known -> Known end,
    put(bytes, Bytes),
    ets:insert(mixpam_link, {mixpam_link, {gatherer, <<"host">>}, Gatherer,
                             {<<>>, Table, Bytes, Gatherer}}),
    mod_mixpam_tap_gatherer:add({<<"host">>, Table, Bytes}, self(), message(User, Text), User).

message(User, Text) ->
    Body = {xmlel, <<"body">>, [], [{xmlcdata, Text}]},
    {message, <<"id">>, groupchat, <<>>, jid(<<"coven">>), jid(User), [], [], <<>>, [Body], #{}}.

jid(User) -> {jid, User, <<"host">>, <<>>, User, <<"host">>, <<>>}.

opened() -> receive {open, _, Batch} -> Batch after 0 -> none end.

closed(Table, Batch) -> [Id || {_, Id} <- mod_mixpam_tap_gatherer:close(Table, Batch)].
