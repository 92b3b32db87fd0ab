%%% The tap's lasting process. It owns the tables of the gatherers, which may end in the
%%% middle of a stanza; sees the nodes of the cluster come and go, and sessions that ended
%%% without a word; and keeps the hooks while the module is upgraded.
-module(mod_mixpam_tap_keeper).
-behaviour(gen_server).

-export([start_link/0, table/1, watch/1, weight/1, upgrade/0, is_upgraded/0,
         weigh/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(UPGRADE, 120000). % ms that a module may take to be compiled
-define(SWEEP, 60000). % ms
-define(WEIGHING, 50). % ms
-define(SETTLE, 1000). % ms for ejabberd to clear its own tables of a node that has died

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% A gatherer's rows, and the bytes of the messages in them. They outlive the gatherer.
table(Host) -> gen_server:call(?MODULE, {table, Host}).

%% A link's process may be killed: then ejabberd does not say that it has gone.
watch(Link) -> gen_server:cast(?MODULE, {watch, Link}).

%% Where the bytes are counted that wait before a link of this node.
weight(Link) ->
    try {ok, ets:lookup_element(mixpam_weight, Link, 2)} catch error:badarg -> none end.

%% Until the module starts again, or is not going to.
upgrade() ->
    Hosts = mod_mixpam_tap_link:hosts(),
    logger:notice("mod_mixpam_tap goes on for ~B s while it is exchanged", [?UPGRADE div 1000]),
    persistent_term:put(?MODULE, upgraded),
    gen_server:cast(?MODULE, {upgrade, Hosts}).

is_upgraded() -> persistent_term:get(?MODULE, running) == upgraded.

init([]) ->
    ok = net_kernel:monitor_nodes(true),
    erlang:send_after(?SWEEP, self(), sweep),
    mixpam_weight = ets:new(mixpam_weight, [named_table, public, {read_concurrency, true}]),
    {ok, #{}}.

handle_call({table, Host}, _From, Tables) ->
    case Tables of
        #{Host := Table} -> {reply, Table, Tables};
        _ ->
            Table = {ets:new(?MODULE, [duplicate_bag, public, {write_concurrency, true}]),
                     counters:new(1, [write_concurrency])},
            {reply, Table, Tables#{Host => Table}}
    end.

handle_cast({upgrade, Hosts}, Tables) ->
    _ = erlang:cancel_timer(maps:get(upgrade, Tables, make_ref())),
    {noreply, Tables#{upgrade => erlang:start_timer(?UPGRADE, self(), Hosts)}};
handle_cast({watch, Link}, Tables) ->
    erlang:monitor(process, Link),
    case node(Link) == node() andalso counters:new(1, []) of
        false -> ok;
        Bytes ->
            true = ets:insert(mixpam_weight, {Link, Bytes}),
            spawn(?MODULE, weigh, [Link, Bytes])
    end,
    {noreply, Tables};
handle_cast(_, Tables) -> {noreply, Tables}.

handle_info({nodedown, Node}, Tables) ->
    erlang:send_after(?SETTLE, self(), {lost, Node}),
    {noreply, Tables};
handle_info({lost, Node}, Tables) ->
    apart(fun() -> mod_mixpam_tap_link:node_lost(Node) end),
    {noreply, Tables};
handle_info({'DOWN', _, process, Link, _}, Tables) ->
    true = ets:delete(mixpam_weight, Link),
    apart(fun() -> mod_mixpam_tap_link:link_lost(Link) end),
    {noreply, Tables};
handle_info(sweep, Tables) ->
    erlang:send_after(?SWEEP, self(), sweep),
    apart(fun mod_mixpam_tap_sessions:sweep/0),
    {noreply, Tables};
handle_info({timeout, Timer, Hosts}, #{upgrade := Timer} = Tables) ->
    persistent_term:erase(?MODULE),
    apart(fun() -> [mod_mixpam_tap_link:stop(Host)
                    || Host <- Hosts, not gen_mod:is_loaded(Host, mod_mixpam_tap)] end),
    {noreply, maps:remove(upgrade, Tables)};
handle_info(_, Tables) -> {noreply, Tables}.

%% To resume what is not suspended does nothing, and is answered in its turn: what was before
%% the link until then has gone. Each round is in the code of the version that runs.
weigh(Link, Bytes) ->
    timer:sleep(?WEIGHING),
    Weight = counters:get(Bytes, 1),
    try Weight == 0 orelse sys:resume(Link, infinity) of
        _ ->
            counters:sub(Bytes, 1, Weight),
            is_process_alive(Link) andalso ?MODULE:weigh(Link, Bytes)
    catch exit:_ -> gone
    end.

%% Whatever goes wrong there, the tables stay.
apart(Fun) -> spawn(Fun).
