%%% Users' block lists (XEP-0191, XEP-0016), and presence towards channels, which the component
%%% sends.
-module(mod_mixpam_tap_lists).

-export([is_blocked/2, judged/3, is_suppressed/1, asked/1, changed/2,
         tell_blocked/2]).
-export([privacy_check_packet/4, list_used/1]).

-import(mod_mixpam_tap_link, [attr/2, bare/1, event/3, is_mix/2, lower/1, parsed/1, send/2,
                              to_link/2]).

-define(BLOCKING, <<"urn:xmpp:blocking">>).
-define(TAP, <<"mixpam:tap:1">>).
-define(MOST, 1000). % channels of one user that are checked

-type stanza() :: mod_mixpam_tap_link:stanza().
-type attr() :: mod_mixpam_tap_link:attr().

%%% Towards a user

%% Blocked: dropped, for a bounce would reach the channel.
-spec is_blocked(binary(), stanza()) -> boolean().
is_blocked(Host, Pkt) ->
    lists:any(fun(From) ->
                  deny == ejabberd_hooks:run_fold(privacy_check_packet, Host, allow,
                              [xmpp:get_to(Pkt), xmpp:set_from(Pkt, From), in])
              end, addresses(xmpp:get_from(Pkt))).

%% A participant's address is id#channel@...: a user who has blocked the channel has blocked that,
%% too.
-spec addresses(jid:jid()) -> [jid:jid()].
addresses(JID) ->
    {U, Domain, _} = lower(JID),
    case binary:split(U, <<"#">>) of
        [_, Channel] when Channel /= <<>> -> [JID, jid:make(Channel, Domain)];
        _ -> [JID]
    end.

%%% In a user's name: C2, judged as the user's own would be

-spec judged(jid:ljid(), stanza(), pid()) -> done | {route, stanza()}.
judged({_, Host, _} = From, Pkt, Link) ->
    case without_mark(Pkt) of
        {marked, Pkt1} -> {route, Pkt1};
        none ->
            case lists:any(fun(To) -> is_denied(Host, From, xmpp:set_to(Pkt, To)) end,
                           addresses(xmpp:get_to(Pkt))) of
                false -> {route, Pkt};
                true -> refuse(Pkt, Link), done
            end
    end.

%% mod_privacy uses the session's list if it is given one, else the user's default list.
-spec is_denied(binary(), jid:ljid(), stanza()) -> boolean().
is_denied(Host, From, Pkt) ->
    Who = case ets:lookup(mixpam_online, {list, jid:encode(From)}) of
              [{_, _, {List, _}}] -> #{jid => jid:make(From), lserver => Host,
                                       privacy_active_list => List};
              [] -> jid:make(From)
          end,
    deny == ejabberd_hooks:run_fold(privacy_check_packet, Host, allow,
                                    [Who, xmpp:put_meta(Pkt, mixpam, true), out]).

%% Unavailable presence of devices that were announced to the channel: XEP-0191 §3.3.
-spec without_mark(stanza()) -> {marked, stanza()} | none.
without_mark(Pkt) when element(1, Pkt) == presence ->
    case lists:partition(fun is_mark/1, xmpp:get_els(Pkt)) of
        {[_ | _], Els} ->
            case xmpp:get_type(Pkt) of
                unavailable -> {marked, xmpp:set_els(Pkt, Els)};
                _ -> none
            end;
        _ -> none
    end;
without_mark(_) -> none.

-spec is_mark(any()) -> boolean().
is_mark({xmlel, <<"blocked">>, Attrs, _}) -> attr(<<"xmlns">>, Attrs) == ?TAP;
is_mark(_) -> false.

-spec refuse(stanza(), pid()) -> any().
refuse(Pkt, Link) when element(1, Pkt) == iq ->
    case xmpp:get_type(Pkt) of
        Type when Type == get; Type == set ->
            {xmlel, _, Attrs, Els} =
                xmpp:encode(xmpp:err_not_acceptable(<<"You have blocked this address">>,
                                                    xmpp:get_lang(Pkt))),
            Blocked = {xmlel, <<"blocked">>,
                       [{<<"xmlns">>, <<"urn:xmpp:blocking:errors">>}], []},
            Error = {xmlel, <<"error">>, Attrs, Els ++ [Blocked]},
            Answer = xmpp:set_els(xmpp:make_iq_result(Pkt), [Error]),
            send(Link, xmpp:set_type(Answer, error));
        _ -> none
    end;
refuse(_, _) -> none.

%% Only a session's process knows the list that it has chosen for itself (XEP-0016).
-spec list_used(Acc) -> Acc.
list_used({Pkt, #{jid := JID, lserver := Host} = State} = Acc) when element(1, Pkt) == iq ->
    _ = case lower(xmpp:get_to(Pkt)) == bare(JID)
            andalso [xmpp:get_ns(E) || E <- xmpp:get_els(Pkt)] of
            [<<"jabber:iq:privacy">>] ->
                Key = {list, jid:encode(jid:tolower(JID))},
                case maps:get(privacy_active_list, State, none) of
                    none -> mnesia:dirty_delete(mixpam_online, Key);
                    List -> mnesia:dirty_write({mixpam_online, Key, {List, self()}})
                end;
            _ -> Host
        end,
    Acc;
list_used(Acc) -> Acc.

%%% T7: what a user blocks and unblocks

%% ejabberd handles the request in the session's process, before it reads the next message: this
%% one.
-spec asked(any()) -> any().
asked(El) ->
    case xmpp:encode(El) of
        {xmlel, Name, _, Els} when Name == <<"block">>; Name == <<"unblock">> ->
            self() ! {mixpam, blocking, {Name, [attr(<<"jid">>, Attrs)
                                                || {xmlel, <<"item">>, Attrs, _} <- Els]}};
        _ -> none
    end.

-spec changed({Name :: binary(), [binary()]}, jid:jid()) -> any().
changed({<<"unblock">>, []}, JID) -> tell(<<"unblocked">>, JID, []);
changed({Name, Texts}, JID) ->
    {_, Host, _} = bare(JID),
    Peers = lists:usort([LPeer || Text <- Texts, {_, {_, Domain, _} = LPeer} <- [parsed(Text)],
                                  is_mix(Host, Domain)]),
    [tell(<<Name/binary, "ed">>, JID, [{<<"address">>, jid:encode(Peer)}])
     || Peer <- Peers, is_listed(Host, JID, Peer) == (Name == <<"block">>)].

%% The user's blocked channels, before the first presence of a session on a link: the component may
%% have been away when that changed, or the user without a session when the block began.
-spec tell_blocked(fun((stanza()) -> any()), jid:jid()) -> any().
tell_blocked(Tell, JID) ->
    {U, Host, _} = bare(JID),
    [Tell(event(Host, <<"blocked">>, [{<<"jid">>, jid:encode({U, Host, <<>>})},
                                      {<<"address">>, jid:encode(Channel)}]))
     || {_, Domain, _} = Channel <- lists:sublist(mod_mixpam_tap_rosters:channels(U, Host), ?MOST),
        is_mix(Host, Domain), is_listed(Host, JID, Channel)].

-spec is_listed(binary(), jid:jid(), jid:ljid()) -> boolean().
is_listed(Host, JID, Peer) ->
    Pkt = mod_mixpam_tap_link:stanza(<<"message">>,
              [{<<"from">>, jid:encode(Peer)}, {<<"to">>, jid:encode(jid:remove_resource(JID))}],
              {xmlcdata, <<>>}),
    deny == ejabberd_hooks:run_fold(privacy_check_packet, Host, allow,
                                    [xmpp:get_to(Pkt), Pkt, in]).

-spec tell(binary(), jid:jid(), [attr()]) -> any().
tell(Name, JID, Attrs) ->
    {_, Host, _} = Bare = bare(JID),
    to_link(Host, event(Host, Name, [{<<"jid">>, jid:encode(Bare)} | Attrs])).

%%% Presence towards channels: only the component knows which devices they may see

-spec is_suppressed(stanza()) -> boolean().
is_suppressed(Pkt) ->
    {_, Domain, R} = To = lower(xmpp:get_to(Pkt)),
    {_, Host, _} = From = lower(xmpp:get_from(Pkt)),
    R == <<>> andalso is_mix(Host, Domain)
        andalso lists:member(xmpp:get_type(Pkt), [available, unavailable, probe])
        andalso mod_mixpam_tap_rosters:in_roster(From, To).

%% Called for every single recipient of a broadcast. The global hook has a JID where the others have
%% the session: from mod_roster, about an item just removed.
-spec privacy_check_packet(Acc, map() | jid:jid(), stanza(), in | out) -> Acc | {stop, deny}
          when Acc :: allow | deny.
privacy_check_packet(Acc, From, Pkt, out) when element(1, Pkt) == presence ->
    case xmpp:get_meta(Pkt, mixpam, false) of
        true -> Acc;
        false when is_map(From) ->
            case is_suppressed(Pkt) of
                true -> {stop, deny};
                false -> Acc
            end;
        false ->
            {_, Host, _} = lower(From),
            {_, Domain, R} = lower(xmpp:get_to(Pkt)),
            case R == <<>> andalso is_mix(Host, Domain) of
                true -> {stop, deny};
                false -> Acc
            end
    end;
privacy_check_packet(Acc, _, _, _) -> Acc.
