%%% From channels: T1, T2, T3, and the copies of T9. A channel's message is archived first.
-module(mod_mixpam_tap_channels).

-export([copy_preference/2]).
-export([sm_receive_packet/1, store_mam_message/7, store_mam_message/8]).

-import(mod_mixpam_tap_link, [attr/2, bare/1, has_room/1, is_mix/2, link_of/1, lower/1, parsed/1,
                              send/2]).

-include("logger.hrl").

-define(SHORT, 8192). % bytes
-define(XML, <<"http://www.w3.org/XML/1998/namespace">>).

-type stanza() :: mod_mixpam_tap_link:stanza().

%% Any failure with a stanza of a channel costs that stanza: letting it pass would deliver it to
%% clients, or bounce it.
-spec sm_receive_packet(Acc) -> Acc | {stop, drop} when Acc :: stanza() | drop.
sm_receive_packet(Pkt) when is_tuple(Pkt) ->
    try received(Pkt)
    catch Class:Reason:Stack ->
        ?ERROR_MSG("mod_mixpam_tap: what was received cannot be read: ~p:~p ~p",
                   [Class, Reason, Stack]),
        {_, Domain, _} = lower(xmpp:get_from(Pkt)),
        {_, Host, _} = lower(xmpp:get_to(Pkt)),
        case is_mix(Host, Domain) of true -> {stop, drop}; false -> Pkt end
    end;
sm_receive_packet(Acc) -> Acc.

-spec received(stanza()) -> stanza() | {stop, drop}.
received(Pkt) ->
    {U, Host, R} = lower(xmpp:get_to(Pkt)),
    {_, Domain, _} = lower(xmpp:get_from(Pkt)),
    case is_mix(Host, Domain) orelse is_for_us(Pkt) of
        false -> Pkt;
        true when R /= <<>> -> copy_preference(Host, Pkt);
        true ->
            %% Answers go to the component even if the account has been deleted meanwhile.
            case is_channel_stanza(Pkt)
                andalso (element(1, Pkt) == iq orelse ejabberd_auth:user_exists(U, Host)) of
                true ->
                    mod_mixpam_tap_batches:wait_for_room(Host, Pkt),
                    divert(Host, Pkt),
                    {stop, drop};
                false -> Pkt
            end
    end.

%% The answer to the component's query, from a domain that is not on the list yet.
-spec is_for_us(stanza()) -> boolean().
is_for_us(Pkt) when element(1, Pkt) == iq ->
    case xmpp:get_id(Pkt) of
        <<"mixpam:", _/binary>> -> {_, _, R} = jid:tolower(xmpp:get_to(Pkt)), R == <<>>;
        _ -> false
    end;
is_for_us(_) -> false.

-spec is_channel_stanza(stanza()) -> boolean().
is_channel_stanza(Pkt) ->
    case {element(1, Pkt), xmpp:get_type(Pkt)} of
        {message, error} -> false;
        {message, groupchat} -> true;
        {message, _} -> lists:any(fun is_mix_child/1, xmpp:get_els(Pkt));
        {presence, Type} -> lists:member(Type, [available, unavailable, error, probe]);
        {iq, Type} -> Type == result orelse Type == error
    end.

-spec is_mix_child(any()) -> boolean().
is_mix_child(El) ->
    case xmpp:get_ns(El) of
        <<"urn:xmpp:mix:misc:", _/binary>> -> false; % XEP-0407: from user to user
        <<"urn:xmpp:mix:", _/binary>> -> true;
        <<"http://jabber.org/protocol/pubsub#event">> ->
            {xmlel, _, _, Els} = xmpp:encode(El),
            [] /= [Node || {xmlel, <<"items">>, Attrs, _} <- Els,
                           <<"urn:xmpp:mix:nodes:", Node/binary>> <- [attr(<<"node">>, Attrs)]];
        _ -> false
    end.

-spec divert(binary(), stanza()) -> any().
divert(Host, Pkt) ->
    case mod_mixpam_tap_lists:is_blocked(Host, Pkt) of
        true -> ok;
        false when element(1, Pkt) == message ->
            Own = without_id(sound(Pkt)),
            mod_mixpam_tap_batches:pass_on(Host, Own, archive(Host, Own));
        false -> mod_mixpam_tap_batches:pass_on(Host, sound(Pkt), <<>>)
    end.

%% ejabberd forgets the prefixes that a stream or a stanza's own tag has declared, and gives
%% elements with the prefix xml a namespace that none may have. It accepts neither in copies, nor
%% would clients. Children that are no longer well-formed XML are removed. Nearly always all of them
%% are kept, and the same ones come for each participant.
-spec sound(stanza()) -> stanza().
sound(Pkt) ->
    Els = xmpp:get_els(Pkt),
    case get({?MODULE, sound}) of
        {Els, all} -> Pkt;
        {Els, Sound} -> xmpp:set_els(Pkt, Sound);
        _ ->
            Kept = case [El || El <- Els, is_sound(El, [])] of Els -> all; Sound -> Sound end,
            %% An answer comes only once.
            _ = element(1, Pkt) == iq orelse put({?MODULE, sound}, {Els, Kept}),
            case Kept of all -> Pkt; _ -> xmpp:set_els(Pkt, Kept) end
    end.

-spec is_sound(any(), [binary()]) -> boolean().
is_sound({xmlel, Name, Attrs, Els}, Outer) ->
    Declared = case [Prefix || {<<"xmlns:", Prefix/binary>>, _} <- Attrs] of
                   [] -> Outer;
                   Own -> Own ++ Outer
               end,
    is_known(Name, Declared)
        andalso lists:all(fun({<<"xmlns">>, NS}) -> NS /= ?XML;
                             ({<<"xmlns:", _/binary>>, _}) -> true;
                             ({<<"xml:", _/binary>>, _}) -> true;
                             ({Key, _}) -> is_known(Key, Declared)
                          end, Attrs)
        andalso lists:all(fun(El) -> is_sound(El, Declared) end, Els);
is_sound({xmlcdata, _}, _) -> true;
is_sound(El, Outer) -> is_sound(xmpp:encode(El), Outer).

-spec is_known(binary(), [binary()]) -> boolean().
is_known(Name, Declared) ->
    case binary:match(Name, <<":">>) of
        nomatch -> true;
        {At, _} ->
            Prefix = binary:part(Name, 0, At),
            Prefix == <<"stream">> orelse lists:member(Prefix, Declared)
    end.

%% mod_mam archives no groupchat messages, but honours preferences and hints for a chat message;
%% store_mam_message below restores the type before it is written. Returns the archive's id, or
%% <<>>.
-spec archive(binary(), stanza()) -> binary().
archive(Host, Pkt) ->
    case xmpp:get_type(Pkt) == groupchat andalso gen_mod:is_loaded(Host, mod_mam) of
        true ->
            Chat = xmpp:put_meta(xmpp:set_type(Pkt, chat), mixpam_groupchat, true),
            case mod_mam:offline_message({bounce, Chat}) of
                {archived, Stored} -> integer_to_binary(xmpp:get_meta(Stored, stanza_id));
                _ -> <<>>
            end;
        false -> <<>>
    end.

-spec without_id(stanza()) -> stanza().
without_id(Pkt) ->
    By = bare(xmpp:get_to(Pkt)),
    xmpp:set_els(Pkt, [El || El <- xmpp:get_els(Pkt), not is_id(El, By)]).

-spec is_id(any(), jid:ljid()) -> boolean().
is_id({xmlel, <<"stanza-id">>, _, _} = El, By) -> whose(El) == By;
is_id(El, By) when element(1, El) == stanza_id -> whose(El) == By;
is_id(_, _) -> false.

%% The same element comes for each participant, one after the other.
-spec whose(any()) -> jid:ljid() | none.
whose(El) ->
    case get({?MODULE, whose}) of
        {El, Known} -> Known;
        _ ->
            {xmlel, _, Attrs, _} = xmpp:encode(El),
            By = case parsed(attr(<<"by">>, Attrs)) of {JID, _} -> bare(JID); error -> none end,
            put({?MODULE, whose}, {El, By}),
            By
    end.

-spec store_mam_message(Acc, binary(), binary(), jid:jid(), binary(), any(), any()) ->
          Acc | stanza() | {stop, drop}
          when Acc :: stanza() | drop | pass.
store_mam_message(Pkt, User, Host, Peer, _Nick, _Type, _Dir) ->
    to_be_stored(Pkt, User, Host, Peer).
-spec store_mam_message(Acc, binary(), binary(), jid:jid(), binary(), any(), any(), any()) ->
          Acc | stanza() | {stop, drop}
          when Acc :: stanza() | drop | pass.
store_mam_message(Pkt, User, Host, Peer, _Nick, _Type, _Dir, _InMuc) ->
    to_be_stored(Pkt, User, Host, Peer).

%% Of channels that the user is in; checked here, after preferences.
-spec to_be_stored(Acc, binary(), binary(), jid:jid()) -> Acc | stanza() | {stop, drop}
          when Acc :: stanza() | drop | pass.
to_be_stored(Pkt, User, Host, Peer) when is_tuple(Pkt) ->
    case xmpp:get_meta(Pkt, mixpam_groupchat, false) of
        true ->
            case mod_mixpam_tap_rosters:is_member(User, Host, bare(Peer)) of
                true -> xmpp:set_type(Pkt, groupchat);
                false -> {stop, drop}
            end;
        false -> Pkt
    end;
to_be_stored(Acc, _User, _Host, _Peer) -> Acc.

%% T9
-spec copy_preference(binary(), stanza()) -> stanza().
copy_preference(Host, Pkt) when element(1, Pkt) == iq ->
    Els = [xmpp:encode(El) || El <- xmpp:get_els(Pkt)],
    case lists:any(fun is_preference/1, Els ++ lists:append([Cs || {xmlel, _, _, Cs} <- Els])) of
        true -> copy(Host, Pkt);
        false -> none
    end,
    Pkt;
copy_preference(_Host, Pkt) -> Pkt.

%% A preference is short.
-spec copy(binary(), stanza()) -> any().
copy(Host, Pkt) ->
    case link_of(Host) of
        {Link, _} ->
            Short = has_room(Link) orelse erlang:external_size(Pkt) =< ?SHORT,
            Short andalso send(Link, Pkt);
        none -> none
    end.

-spec is_preference(any()) -> boolean().
is_preference({xmlel, <<"user-preference">>, Attrs, _}) ->
    attr(<<"xmlns">>, Attrs) == <<"urn:xmpp:mix:anon:0">>;
is_preference(_) -> false.
