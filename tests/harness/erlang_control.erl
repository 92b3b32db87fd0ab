%%% Evaluates what a test says, inside the ejabberd that it tests: started by
%%% `-erlang_control IP -s erlang_control`, for one expression a connection.
-module(erlang_control).
-export([start/0]).

-define(PORT, 5399).

start() ->
    {ok, [[Text]]} = init:get_argument(?MODULE),
    {ok, Ip} = inet:parse_address(Text),
    spawn(fun() ->
        {ok, Socket} = gen_tcp:listen(?PORT, [binary, {ip, Ip}, {packet, 4}, {active, false},
                                              {reuseaddr, true}]),
        accept(Socket)
    end).

accept(Socket) ->
    {ok, Peer} = gen_tcp:accept(Socket),
    ok = gen_tcp:controlling_process(Peer, spawn(fun() -> receive go -> serve(Peer) end end)),
    {connected, Pid} = erlang:port_info(Peer, connected),
    Pid ! go,
    accept(Socket).

serve(Peer) ->
    {ok, Text} = gen_tcp:recv(Peer, 0),
    Value = try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
        {ok, Exprs} = erl_parse:parse_exprs(Tokens),
        {value, Result, _} = erl_eval:exprs(Exprs, []),
        Result
    catch Class:Reason:Stack -> {Class, Reason, Stack}
    end,
    gen_tcp:send(Peer, unicode:characters_to_binary(io_lib:format("~0tp", [Value]))).
