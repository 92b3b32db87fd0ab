%%% The tap's permanent process. It owns the tables of the gatherers, which may end in the middle of
%%% a stanza; monitors the nodes of the cluster, and finds sessions that ended without a hook; and
%%% keeps the hooks while the module is upgraded.
-module(mod_mixpam_tap_keeper).
-behaviour(gen_server).

-export([start_link/0, store/1, watch/1, weight/1, upgrade/0, is_upgraded/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include("logger.hrl").

-define(UPGRADE, 120000). % ms that a module may take to be compiled
-define(SWEEP, 60000). % ms
-define(WEIGHING, 50). % ms
-define(SETTLE, 1000). % ms for ejabberd to clear its own tables of a node that has died

%% `stores` by domain; `weighed` are links by the monitor of the process that weighs each; `upgrade`
%% is the timer of an upgrade under way.
-type state() :: #{stores := #{binary() => mod_mixpam_tap_batches:store()},
                   weighed := #{reference() => {pid(), counters:counters_ref(), integer()}},
                   upgrade => reference()}.

-spec start_link() -> {ok, pid()} | {error, any()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% The table of a domain's batches, and the bytes of their messages. It outlives the gatherer.
-spec store(binary()) -> mod_mixpam_tap_batches:store().
store(Host) -> gen_server:call(?MODULE, {store, Host}).

%% A link's process may be killed: then ejabberd does not report its end.
-spec watch(pid()) -> ok.
watch(Link) -> gen_server:cast(?MODULE, {watch, Link}).

%% The counter of bytes that wait before a link of this node.
-spec weight(pid()) -> {ok, counters:counters_ref()} | none.
weight(Link) ->
    try {ok, ets:lookup_element(mixpam_weight, Link, 2)} catch error:badarg -> none end.

%% The tap goes on until the module starts again, or UPGRADE has passed.
-spec upgrade() -> ok.
upgrade() ->
    Hosts = mod_mixpam_tap_link:hosts(),
    ?INFO_MSG("mod_mixpam_tap goes on for ~B s while it is exchanged", [?UPGRADE div 1000]),
    persistent_term:put(?MODULE, upgraded),
    gen_server:cast(?MODULE, {upgrade, Hosts}).

-spec is_upgraded() -> boolean().
is_upgraded() -> persistent_term:get(?MODULE, running) == upgraded.

-spec init([]) -> {ok, state()}.
init([]) ->
    ok = net_kernel:monitor_nodes(true),
    erlang:send_after(?SWEEP, self(), sweep),
    mixpam_weight = ets:new(mixpam_weight, [named_table, public, {read_concurrency, true}]),
    [watch(Link) || Link <- lists:usort([Pid || {_, Host, Pid, _} <- ets:tab2list(mixpam_link),
                                                is_binary(Host)])],
    {ok, #{stores => #{}, weighed => #{}}}.

-spec handle_call(any(), any(), state()) -> {reply, any(), state()}.
handle_call({store, Host}, _From, #{stores := Stores} = State) ->
    case Stores of
        #{Host := Store} -> {reply, Store, State};
        _ ->
            Table = ets:new(?MODULE, [duplicate_bag, public, {write_concurrency, true}]),
            Store = mod_mixpam_tap_batches:keep(Host, Table,
                                                counters:new(1, [write_concurrency])),
            {reply, Store, State#{stores := Stores#{Host => Store}}}
    end;
handle_call(_, _From, State) -> {reply, ok, State}.

-spec handle_cast(any(), state()) -> {noreply, state()}.
handle_cast({upgrade, Hosts}, State) ->
    _ = erlang:cancel_timer(maps:get(upgrade, State, make_ref())),
    {noreply, State#{upgrade => erlang:start_timer(?UPGRADE, self(), Hosts)}};
handle_cast({watch, Link}, State) ->
    case node(Link) == node() andalso ets:member(mixpam_weight, Link) of
        true -> ok; % after an upgrade
        false ->
            erlang:monitor(process, Link),
            node(Link) == node() andalso weigh_first(Link)
    end,
    {noreply, State};
handle_cast(_, State) -> {noreply, State}.

-spec handle_info(any(), state()) -> {noreply, state()}.
handle_info({nodedown, Node}, State) ->
    erlang:send_after(?SETTLE, self(), {lost, Node}),
    {noreply, State};
handle_info({lost, Node}, State) ->
    apart(fun() -> mod_mixpam_tap_link:node_lost(Node) end),
    {noreply, State};
handle_info({weigh, Link, Bytes}, State) -> {noreply, weigh(Link, Bytes, State)};
handle_info({'DOWN', Ref, process, _, _}, #{weighed := Weighed} = State)
  when is_map_key(Ref, Weighed) ->
    {{Link, Bytes, Weight}, Others} = maps:take(Ref, Weighed),
    counters:sub(Bytes, 1, Weight),
    weigh_later(Link, Bytes),
    {noreply, State#{weighed := Others}};
handle_info({'DOWN', _, process, Link, _}, State) ->
    true = ets:delete(mixpam_weight, Link),
    apart(fun() -> mod_mixpam_tap_link:link_lost(Link) end),
    {noreply, State};
handle_info(sweep, State) ->
    erlang:send_after(?SWEEP, self(), sweep),
    apart(fun mod_mixpam_tap_online:sweep/0),
    {noreply, State};
handle_info({timeout, Timer, Hosts}, #{upgrade := Timer} = State) ->
    persistent_term:erase(?MODULE),
    apart(fun() -> [mod_mixpam_tap_hosts:stop(Host)
                    || Host <- Hosts, not gen_mod:is_loaded(Host, mod_mixpam_tap)] end),
    {noreply, maps:remove(upgrade, State)};
handle_info(_, State) -> {noreply, State}.

%% Resuming a process that is not suspended does nothing, and is answered in its turn: everything
%% queued before the link until then has gone. The asking process runs none of the tap's code, so
%% that no upgrade ends it.
-spec weigh(pid(), counters:counters_ref(), state()) -> state().
weigh(Link, Bytes, #{weighed := Weighed} = State) ->
    case {is_process_alive(Link), counters:get(Bytes, 1)} of
        {false, _} -> State;
        {true, 0} -> weigh_later(Link, Bytes), State;
        {true, Weight} ->
            {_, Ref} = spawn_monitor(sys, resume, [Link, infinity]),
            State#{weighed := Weighed#{Ref => {Link, Bytes, Weight}}}
    end.

-spec weigh_first(pid()) -> reference().
weigh_first(Link) ->
    Bytes = counters:new(1, []),
    true = ets:insert(mixpam_weight, {Link, Bytes}),
    weigh_later(Link, Bytes).

-spec weigh_later(pid(), counters:counters_ref()) -> reference().
weigh_later(Link, Bytes) -> erlang:send_after(?WEIGHING, self(), {weigh, Link, Bytes}).

%% The tables stay, even if that fails.
-spec apart(fun(() -> any())) -> pid().
apart(Fun) -> spawn(Fun).
