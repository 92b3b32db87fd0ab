%%% Supervises the tap's processes, below ejabberd's own supervisor of modules.
-module(mod_mixpam_tap_sup).
-behaviour(supervisor).

-export([start/1, stop/1, start_link/0, init/1]).

-define(END, 1000). % ms that a child may take to end

-spec start(binary()) -> ok.
start(Host) ->
    Sup = #{id => ?MODULE, start => {?MODULE, start_link, []}, type => supervisor},
    _ = supervisor:start_child(ejabberd_gen_mod_sup, Sup),
    %% Below a supervisor that an older version started, these children are new.
    [supervisor:start_child(?MODULE, Child) || Child <- [gatherer(Host) | workers()]],
    ok.

-spec stop(binary()) -> ok.
stop(Host) ->
    _ = (catch supervisor:terminate_child(?MODULE, {gatherer, Host})),
    _ = (catch supervisor:delete_child(?MODULE, {gatherer, Host})),
    ok.

-spec start_link() -> {ok, pid()} | {error, any()}.
start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% Stays below the 10 restarts in a second that ejabberd_gen_mod_sup takes for all modules. A
%% supervisor that was killed leaves children, which keep their names for a moment.
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Hosts = mod_mixpam_tap_link:hosts(),
    await_end([mod_mixpam_tap_keeper | mod_mixpam_tap_rosters:workers()]
              ++ [mod_mixpam_tap_batches:name(Host) || Host <- Hosts]),
    {ok, {#{strategy => one_for_one, intensity => 50, period => 5},
          [#{id => mod_mixpam_tap_keeper, start => {mod_mixpam_tap_keeper, start_link, []}}
           | workers() ++ [gatherer(Host) || Host <- Hosts]]}}.

%% A process without a name counts as one that has ended.
-spec await_end([atom()]) -> ok.
await_end(Names) ->
    lists:foreach(fun(Name) ->
        Ref = erlang:monitor(process, Name),
        receive {'DOWN', Ref, _, _, _} -> ok
        after ?END ->
            _ = (catch exit(whereis(Name), kill)), % or it has just ended
            receive {'DOWN', Ref, _, _, _} -> ok end
        end
    end, Names).

-spec gatherer(binary()) -> supervisor:child_spec().
gatherer(Host) ->
    #{id => {gatherer, Host}, start => {mod_mixpam_tap_gatherer, start_link, [Host]}}.

-spec workers() -> [supervisor:child_spec()].
workers() ->
    [#{id => Worker, start => {mod_mixpam_tap_rosters, start_link, [Worker]}}
     || Worker <- mod_mixpam_tap_rosters:workers()].
