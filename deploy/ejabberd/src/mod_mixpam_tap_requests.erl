%%% Requests of a session to its own account that only the component can answer: T5, and the answer
%%% by C1. Each open request is in the session's state (mixpam_asked, see mod_mixpam_tap_sessions),
%%% so that it gets an answer even if the component fails.
-module(mod_mixpam_tap_requests).

-export([ask/3, refuse/3, answered/3, timeout/2, link_lost/2, copy/2]).

-import(mod_mixpam_tap_link, [bare/1, has_room/1, lower/1, send/2, stanza/3]).

-define(ASKED, 200). % open requests of one session
-define(ASKED_BYTES, 65536). % of their ids
-define(ASKED_TIMEOUT, 120000). % ms

-type stanza() :: mod_mixpam_tap_link:stanza().
-type state() :: mod_mixpam_tap_sessions:state().
-type asked() :: {Id :: binary(), Link :: pid(), reference()}.

%% Only ids are kept, and as copies: they are parts of a binary read from the socket.
-spec ask(pid(), stanza(), state()) -> {stop, {drop, state()}}.
ask(Link, IQ, State) ->
    Asked = maps:get(mixpam_asked, State, []),
    Id = binary:copy(xmpp:get_id(IQ)),
    Bytes = lists:sum([byte_size(I) || {I, _, _} <- Asked]) + byte_size(Id),
    case length(Asked) < ?ASKED andalso Bytes =< ?ASKED_BYTES andalso has_room(Link) of
        true ->
            State1 = mod_mixpam_tap_online:pay(Link, State),
            send(Link, IQ),
            State2 = State1#{mixpam_asked => [open(Id, Link) | Asked]},
            {stop, {drop, mod_mixpam_tap_sessions:watch(Link, State2)}};
        false ->
            Text = <<"Too many requests are open">>,
            refuse(IQ, xmpp:err_resource_constraint(Text, xmpp:get_lang(IQ)), State)
    end.

-spec open(binary(), pid()) -> asked().
open(Id, Link) -> {Id, Link, erlang:start_timer(?ASKED_TIMEOUT, self(), mixpam)}.

-spec answered(binary(), stanza(), state()) -> state() | {taken, state()}.
answered(Id, Pkt, #{jid := JID} = State) ->
    case lists:member(xmpp:get_type(Pkt), [result, error])
        andalso lower(xmpp:get_from(Pkt)) == bare(JID) of
        false -> State;
        true ->
            case lists:keytake(Id, 1, maps:get(mixpam_asked, State, [])) of
                {value, {_, _, Timer}, Rest} ->
                    _ = erlang:cancel_timer(Timer),
                    State#{mixpam_asked => Rest};
                false ->
                    %% Only the component's own answer counts: C1 may be any stanza.
                    case lists:member(erlang:phash2(Id), maps:get(mixpam_expired, State, [])) of
                        true -> {taken, State};
                        false -> State
                    end
            end
    end.

%% None if the timer is not this module's.
-spec timeout(reference(), state()) -> state() | none.
timeout(Timer, State) ->
    case lists:keytake(Timer, 3, maps:get(mixpam_asked, State, [])) of
        {value, {Id, _, _} = Late, Rest} ->
            Text = <<"MIX does not answer">>,
            Expired = [erlang:phash2(Id) | maps:get(mixpam_expired, State, [])],
            not_answered([Late], xmpp:err_remote_server_timeout(Text, lang(State)),
                         State#{mixpam_asked => Rest,
                                mixpam_expired => lists:sublist(Expired, ?ASKED)});
        false -> none
    end.

-spec link_lost(pid(), state()) -> state().
link_lost(Link, State) ->
    {Asked, Open} = lists:partition(fun({_, L, _}) -> L == Link end,
                                    maps:get(mixpam_asked, State, [])),
    [erlang:cancel_timer(Timer) || {_, _, Timer} <- Asked],
    Text = <<"MIX is not available just now">>,
    not_answered(Asked, xmpp:err_service_unavailable(Text, lang(State)),
                 State#{mixpam_asked => Open}).

-spec lang(state()) -> binary().
lang(State) -> maps:get(lang, State, <<"en">>).

%% Called when another process takes over the session.
-spec copy(state(), state()) -> state().
copy(New, Old) ->
    New#{mixpam_asked => [open(Id, Link) || {Id, Link, _} <- maps:get(mixpam_asked, Old, [])]}.

%% Oldest first.
-spec not_answered([asked()], any(), state()) -> state().
not_answered(Asked, Error, State) ->
    lists:foldr(fun({Id, _, _}, Acc) -> ejabberd_c2s:send(Acc, error_for(Id, Error, Acc)) end,
                State, Asked).

-spec error_for(binary(), any(), state()) -> stanza().
error_for(Id, Error, #{jid := JID}) ->
    stanza(<<"iq">>, [{<<"type">>, <<"error">>}, {<<"id">>, Id}, {<<"to">>, jid:encode(JID)},
                      {<<"from">>, jid:encode(jid:remove_resource(JID))}], xmpp:encode(Error)).

-spec refuse(stanza(), any(), state()) -> {stop, {drop, state()}}.
refuse(IQ, Error, State) ->
    ejabberd_router:route_error(IQ, Error),
    {stop, {drop, State}}.
